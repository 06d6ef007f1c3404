"""Read the night's raw event logs into events, sessions and per-user sequences."""

import sys

from halflife.command import main

if __name__ == "__main__":
    sys.exit(main("sessionize", __doc__))
