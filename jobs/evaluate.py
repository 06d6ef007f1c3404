"""Compare the published nights with what was really bought next, beside simple baselines."""

import sys

from halflife.command import main

if __name__ == "__main__":
    sys.exit(main("evaluate", __doc__))
