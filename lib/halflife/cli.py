"""The `halflife` command, for what a person asks of an installation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns its exit code."""
    parser = argparse.ArgumentParser(prog="halflife", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="check each part of the installation by using it, one line each")
    parser.parse_args(arguments)

    from halflife import doctor  # its checks import TensorFlow and Spark: not for a --help

    return doctor.main([])


if __name__ == "__main__":
    sys.exit(main())
