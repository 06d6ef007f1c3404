"""The `halflife` command, for what a person asks of an installation."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from halflife import starter
from halflife.cli_options import configured, user, warehouse
from halflife.errors import AuditError, ConfigError, HalflifeError, InputMissingError
from halflife.report.cli import add_report, add_runs
from halflife.upkeep.cli import add_gc, add_rollback, add_vacuum, add_verify

if TYPE_CHECKING:  # what a command needs is imported when it runs: not for a --help
    from halflife.answers.night import PublishedNight


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns its exit code."""
    parser = argparse.ArgumentParser(prog="halflife", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="check each part of the installation by using it, one line each")
    doctor.set_defaults(run=_doctor)
    for add in (_add_forget, _add_explain, _add_top, _add_diff, _add_audience):
        add(commands)
    _add_ready(_command(commands, "ready", "is there what a job needs for a night? exit code 3 where it is not yet"))
    add_report(_command(commands, "report", "write the report of a published night, one HTML file, and name it"))
    add_runs(_command(commands, "runs", "the history of runs: what was published or failed, rows, seconds by stage"))
    add_verify(_command(commands, "verify", "is every published file there, byte for byte?"))
    add_rollback(_command(commands, "rollback", "bring the run of a night back that another has replaced"))
    add_gc(_command(commands, "gc", "what nobody needs any more: replaced runs, what killed runs have left"))
    add_vacuum(_command(commands, "vacuum", "files of the lake that no night there needs any more"))
    options = parser.parse_args(arguments)
    starter.end_with_it()
    try:
        code: int = options.run(options)
    except HalflifeError as error:
        print(f"halflife {options.command}: {error}", file=sys.stderr)
        return error.exit_code
    return code


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_text: str
) -> argparse.ArgumentParser:
    """A subcommand that asks a warehouse."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=help_text, description=help_text)
    command.add_argument(
        "--config", type=Path, required=True, help="YAML file of the environment: says which warehouse"
    )
    return command


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _add_forget(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    forget = _command(commands, "forget", "remove users or events from every table, at the next run of sessionize")
    forget.add_argument("--users", type=Path, help="a text file with one user id a line")
    forget.add_argument("--events", type=Path, help="a CSV file with a user id and an event id a line, no header")
    forget.add_argument(
        "--before",
        type=date.fromisoformat,
        required=True,
        metavar="YYYY-MM-DD",
        help="what happened from this day on stays",
    )
    forget.set_defaults(run=_forget)


def _add_ready(ready: argparse.ArgumentParser) -> None:
    ready.add_argument("job", choices=("sessionize", "train", "score"))
    ready.add_argument("--as-of", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD", help="the night")
    ready.add_argument(
        "--settled-minutes",
        type=float,
        default=0,
        metavar="N",
        help="of sessionize: a file that was changed in the last N minutes is not there yet (default: %(default)s)",
    )
    ready.set_defaults(run=_ready)


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    explain = _command(commands, "explain", "why a score is what it is: each event of the pair and what is left of it")
    explain.add_argument("user", nargs="?", metavar="USER")
    explain.add_argument("item", nargs="?", metavar="ITEM")
    explain.add_argument("--plot", type=Path, metavar="FILE", help="draw interest over time and ahead, as SVG")
    explain.add_argument("--check", type=_count, metavar="N", help="instead: do N random pairs add up to their scores?")
    _add_night_and_json(explain)
    explain.set_defaults(run=_explain)


def _add_top(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    top = _command(commands, "top", "a user's items of the highest score, tonight or at any later time")
    top.add_argument("user", metavar="USER")
    top.add_argument("-n", type=_count, default=20, help="how many (default: %(default)s)")
    top.add_argument(
        "--at", type=datetime.fromisoformat, metavar="TIME", help="2017-12-08T18:00, UTC; default: the night"
    )
    _add_night_and_json(top)
    top.set_defaults(run=_top)


def _add_diff(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    diff = _command(commands, "diff", "what moved between two nights, and why: decay, new events, new model")
    diff.add_argument("early", type=date.fromisoformat, metavar="D1")
    diff.add_argument("late", type=date.fromisoformat, metavar="D2")
    diff.add_argument("--user", help="the items of one user that moved most; default: the sums over all users")
    diff.add_argument("-n", type=_count, default=20, help="how many items (default: %(default)s)")
    diff.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    diff.set_defaults(run=_diff)


def _add_audience(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    audience = _command(commands, "audience", "the users whose score for a category or an item is above a threshold")
    what = audience.add_mutually_exclusive_group(required=True)
    what.add_argument("--category")
    what.add_argument("--item")
    audience.add_argument("--above", type=float, required=True, metavar="X", help="a score, from 0 to 1")
    audience.add_argument("--out", type=Path, metavar="FILE", help=".csv or .parquet; default: CSV to standard output")
    audience.add_argument("--as-of", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the night; default: the last")
    audience.set_defaults(run=_audience)


def _add_night_and_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--as-of", type=date.fromisoformat, metavar="YYYY-MM-DD", help="the night; default: the last")
    command.add_argument("--json", action="store_true", help="one line of JSON instead of a table")


def _doctor(_: argparse.Namespace) -> int:
    from halflife import doctor

    return doctor.main([])


def _ready(options: argparse.Namespace) -> int:
    from halflife.pipelines import sessionize

    config, store = configured(options)
    if options.job == "sessionize":
        files = sessionize.ready(store, config, options.as_of, options.settled_minutes)
        print(f"{files} files for the night of {options.as_of}")
    else:
        print(store.path("events", options.as_of))
    return 0


def _night(options: argparse.Namespace) -> PublishedNight:
    from halflife.answers.night import PublishedNight

    return PublishedNight(warehouse(options), options.as_of)


def _explain(options: argparse.Namespace) -> int:
    from halflife.answers import check, explain, plot, show
    from halflife.answers.attention import attention

    night = _night(options)
    if options.check is not None:
        checked = check.check(night, options.check)
        print(show.as_json(vars(checked)) if options.json else check.in_words(checked))
        return 0 if checked.adds_up else AuditError.exit_code
    if options.user is None or options.item is None:
        raise ConfigError("name a USER and an ITEM, or --check N")
    known = user(options)
    explained = explain.explain(night, known, options.item)
    weights = attention(night, known)
    if options.json:
        print(show.as_json({**show.explanation_json(explained), "attention": show.attention_json(weights)}))
    else:
        show.on_terminal(show.explanation_table(explained))
        if len(weights):
            show.on_terminal(show.attention_table(weights, explained.half_lives_days.tolist()))
    if options.plot:
        _write(options.plot, plot.svg(explained, explain.curve_of(night, known, options.item)))
    return 0


def _top(options: argparse.Namespace) -> int:
    from halflife import Scorer
    from halflife.answers import show

    scorer = Scorer(warehouse(options).root, options.as_of)
    best = scorer.top(user(options), options.n, options.at)
    if options.json:
        print(show.as_json(show.records(best)))
    else:
        when = options.at or f"the night of {scorer.as_of}"
        show.on_terminal(show.frame(best, f"best items of user {options.user}, {when}"))
    return 0


def _diff(options: argparse.Namespace) -> int:
    from halflife.answers import diff, show
    from halflife.answers.night import PublishedNight

    store = warehouse(options)
    early, late = PublishedNight(store, options.early), PublishedNight(store, options.late)
    if options.user is None:
        moved, title = diff.totals(early, late), "expected engagements of all users"
    else:
        moved = diff.of_user(early, late, user(options))
        moved = moved.loc[(moved["after"] - moved["before"]).abs().nlargest(options.n).index]
        title = f"user {options.user}: the items that moved most"
    if options.json:
        print(show.as_json(show.records(moved)))
    else:
        show.on_terminal(show.frame(moved, f"{title}, {early.as_of} to {late.as_of}"))
    return 0


def _audience(options: argparse.Namespace) -> int:
    from halflife.answers import audience

    night = _night(options)
    if options.category is not None:
        users = audience.of_category(night, options.category, options.above)
    else:
        users = audience.of_item(night, options.item, options.above)
    if options.out:
        audience.write(users, options.out)
        print(f"{len(users):,} users written to {options.out}")
    else:
        users.to_csv(sys.stdout, index=False)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _forget(options: argparse.Namespace) -> int:
    from halflife import forgetting
    from halflife.pseudonyms import meant_ids

    users = _lines(options.users) if options.users else []
    rows = list(csv.reader(_lines(options.events))) if options.events else []
    if any(len(row) != 2 for row in rows):
        raise ConfigError(f"{options.events}: expected a user id and an event id in each line")
    events = [(user, event) for user, event in rows]
    if not users and not events:
        raise ConfigError("nothing to forget: give --users or --events, a file with at least one line")
    config, store = configured(options)
    forgetting.ask(
        store,
        options.before,
        [meant for user in users for meant in meant_ids(config, user)],
        [(meant, event) for user, event in events for meant in meant_ids(config, user)],
    )
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
