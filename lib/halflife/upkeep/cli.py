"""The subcommands `halflife verify`, `rollback`, `gc` and `vacuum`."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime

from halflife.cli_options import configured, warehouse
from halflife.errors import AuditError, ConfigError, InputMissingError


def add_verify(command: argparse.ArgumentParser) -> None:
    """The arguments of `halflife verify`."""
    command.add_argument("--as-of", type=date.fromisoformat, metavar="YYYY-MM-DD", help="one night; default: all")
    command.add_argument("--quick", action="store_true", help="compare sizes alone, read no file")
    command.set_defaults(run=_verify)


def add_rollback(command: argparse.ArgumentParser) -> None:
    """The arguments of `halflife rollback`."""
    command.add_argument("table", metavar="TABLE", help="all tables of its job go together")
    command.add_argument("--as-of", type=date.fromisoformat, required=True, metavar="YYYY-MM-DD", help="the night")
    command.add_argument("--to", metavar="RUN", help="id of the run; default: the one before the present one")
    command.set_defaults(run=_rollback)


def add_gc(command: argparse.ArgumentParser) -> None:
    """The arguments of `halflife gc`."""
    command.add_argument("--remove", action="store_true", help="remove it; default: only say what would go")
    command.set_defaults(run=_gc)


def add_vacuum(command: argparse.ArgumentParser) -> None:
    """The arguments of `halflife vacuum`."""
    command.add_argument("--remove", action="store_true", help="remove them; default: only say what would go")
    command.add_argument(
        "--older-than",
        type=int,
        metavar="DAYS",
        help="default: deliver.replaced_days; 0 takes readers of older versions, and deliveries that run, their files",
    )
    command.set_defaults(run=_vacuum)


def _verify(options: argparse.Namespace) -> int:
    from halflife.upkeep import verify

    store = warehouse(options)
    if not store.published():
        raise InputMissingError(f"{store.root}: no night is published there; name another warehouse")
    if options.as_of and options.as_of not in {night for _, night in store.published()}:
        raise InputMissingError(f"{store.root}: no night {options.as_of} is published there")
    found = 0
    for damage in verify.damages(store, options.as_of, digests=not options.quick):
        found += 1
        print(f"{damage.path}: {damage.what}")
    nights = sum(options.as_of in (None, night) for _, night in store.published())
    if found:
        raise AuditError(f"{found} of the paths of {nights} nights are not as they were published; restore them")
    print(f"{nights} nights are whole" + (" by their files' sizes" if options.quick else ""))
    return 0


def _rollback(options: argparse.Namespace) -> int:
    from halflife.upkeep import rollback
    from halflife.warehouse import JOB_OF

    if options.table not in JOB_OF:
        raise ConfigError(f"{options.table!r} is no table; name one of {', '.join(sorted(JOB_OF))}")
    job = JOB_OF[options.table]
    run = rollback.roll_back(warehouse(options), job, options.as_of, options.to)
    print(f"{job} {options.as_of}: readers see {run} again, in all its tables")
    return 0


def _gc(options: argparse.Namespace) -> int:
    from halflife.upkeep import collect

    loaded, store = configured(options)
    pieces = collect.garbage(store, loaded.keep.replaced_days, datetime.now(UTC))
    for piece in pieces:
        print(f"{piece.path.relative_to(store.root)}: {piece.why}")
    if options.remove:
        collect.remove(store, pieces)
    freed = sum(piece.bytes for piece in pieces)
    print(f"{len(pieces)} {'removed' if options.remove else 'could go (--remove does it)'}, {freed / 1e6:,.1f} MB")
    return 0


def _vacuum(options: argparse.Namespace) -> int:
    from halflife.delivery.table import lakes

    config = configured(options)[0].deliver
    days = config.replaced_days if options.older_than is None else options.older_than
    if days < 0:
        raise ConfigError(f"--older-than {days}: a number of days from 0 on")
    found = [f"{lake.address}/{path}" for lake in lakes(config).values() for path in lake.vacuum(days, options.remove)]
    for path in found:
        print(path)
    print(f"{len(found)} files {'removed' if options.remove else 'could go (--remove does it)'}")
    return 0
