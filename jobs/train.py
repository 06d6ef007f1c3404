"""Train the model on everything before --as-of, across Horovod ranks."""

import sys

from halflife.command import main

if __name__ == "__main__":
    sys.exit(main("train", __doc__))
