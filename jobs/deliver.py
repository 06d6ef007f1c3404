"""Deliver a published night to the lake, as Delta tables on an object store or a disk."""

import sys

from halflife.command import main

if __name__ == "__main__":
    sys.exit(main("deliver", __doc__))
