"""Write the decayed interest score of every user-item pair as of the night."""

import sys

from halflife.command import main

if __name__ == "__main__":
    sys.exit(main("score", __doc__))
