"""The subcommands `halflife report` and `halflife runs`."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from datetime import date

from halflife.cli_options import configured, warehouse


def add_report(command: argparse.ArgumentParser) -> None:
    """The arguments of `halflife report`."""
    command.add_argument("--as-of", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the night; default: the last")
    command.add_argument("--open", action="store_true", help="show it in the browser")
    command.set_defaults(run=_report)


def add_runs(command: argparse.ArgumentParser) -> None:
    """The arguments of `halflife runs`."""
    command.add_argument("-n", type=int, default=30, help="how many, the newest first (default: %(default)s)")
    command.add_argument("--json", action="store_true", help="one line of JSON for each run instead of a table")
    command.set_defaults(run=_runs)


def _runs(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from halflife.answers import show
    from halflife.report import runs

    found = runs.history(warehouse(options))[: options.n]
    if options.json:
        print(*(show.as_json(asdict(run)) for run in found), sep="\n")
    else:
        show.on_terminal(runs.shown(found))
    return 0


def _report(options: argparse.Namespace) -> int:
    """Do what the job does, and name the file."""
    from halflife.command import Job, run
    from halflife.errors import InputMissingError
    from halflife.pipelines import report

    loaded, store = configured(options)
    night = options.as_of or max(store.nights("score"), default=None)
    if night is None:
        raise InputMissingError(f"no night is published under {store.root}; run jobs/score.py first")
    run(report.run, Job("report", night, loaded, sys.stdout, until=night))
    path = store.root / "reports" / f"as_of={night}" / report.FILE
    print(path)
    if options.open:
        webbrowser.open(path.as_uri())
    return 0
