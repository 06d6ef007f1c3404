"""The `halflife` command, for what a person asks of an installation."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from halflife.errors import ConfigError, HalflifeError, InputMissingError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns its exit code."""
    parser = argparse.ArgumentParser(prog="halflife", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="check each part of the installation by using it, one line each")
    forget = commands.add_parser(
        "forget", help="remove users or events from every table, at the next run of sessionize"
    )
    forget.add_argument("--config", type=Path, required=True, help="YAML file of the environment: says which warehouse")
    forget.add_argument("--users", type=Path, help="a text file with one user id a line")
    forget.add_argument("--events", type=Path, help="a CSV file with a user id and an event id a line, no header")
    forget.add_argument(
        "--before",
        type=date.fromisoformat,
        required=True,
        metavar="YYYY-MM-DD",
        help="what happened from this day on stays",
    )
    options = parser.parse_args(arguments)
    try:
        return _doctor() if options.command == "doctor" else _forget(options)
    except HalflifeError as error:
        print(f"halflife {options.command}: {error}", file=sys.stderr)
        return error.exit_code


def _doctor() -> int:
    from halflife import doctor  # its checks import TensorFlow and Spark: not for a --help

    return doctor.main([])


def _forget(options: argparse.Namespace) -> int:
    from halflife import config, forgetting
    from halflife.warehouse import Warehouse

    users = _lines(options.users) if options.users else []
    rows = list(csv.reader(_lines(options.events))) if options.events else []
    if any(len(row) != 2 for row in rows):
        raise ConfigError(f"{options.events}: expected a user id and an event id in each line")
    events = [(user, event) for user, event in rows]
    if not users and not events:
        raise ConfigError("nothing to forget: give --users or --events, a file with at least one line")
    store = Warehouse(config.load(options.config).warehouse)
    forgetting.ask(store, options.before, users, events)
    print(
        f"noted: {len(users)} users and {len(events)} events go at the next run of sessionize, from earlier nights too"
    )
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise InputMissingError(f"{path}: not readable as text: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
