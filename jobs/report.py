"""Write the report of a published night as one HTML file."""

import sys

from halflife.command import main

if __name__ == "__main__":
    sys.exit(main("report", __doc__))
