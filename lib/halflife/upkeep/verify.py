"""Whether a warehouse is whole: each published file is there, as its manifest describes it, and nothing else is.

Tells a copy that was made in the middle of a run from a whole one, and a flipped byte from a good file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from halflife.digests import digest_of_file
from halflife.errors import HalflifeError
from halflife.warehouse import Warehouse


@dataclass(frozen=True)
class Damage:
    """What is wrong with a path of the warehouse."""

    path: Path
    what: str


def damages(store: Warehouse, as_of: date | None = None, digests: bool = True) -> Iterator[Damage]:
    """Everything that is wrong with the published nights, or with one; `digests` reads every byte.

    A file that several nights share is read once.
    """
    good: set[tuple[int, str]] = set()
    for job, night in store.published():
        if as_of is None or night == as_of:
            yield from _of_night(store, job, night, good, digests)


def _of_night(store: Warehouse, job: str, night: date, good: set[tuple[int, str]], digests: bool) -> Iterator[Damage]:
    link = store.night_link(job, night)
    if not link.is_symlink():
        yield Damage(link, "is no link: a warehouse is copied with its links, by cp -a or rsync -a")
        return
    run = link.resolve()
    if not run.is_dir():
        yield Damage(link, f"leads to {run.name}, which is not there")
        return
    try:
        manifest = store.manifest(job, night)
    except HalflifeError as error:
        yield Damage(run, str(error))
        return
    assert manifest is not None  # its link is there
    if (manifest["job"], manifest["as_of"], manifest["run_id"]) != (job, night.isoformat(), run.name):
        yield Damage(run, f"its manifest is that of {manifest['job']} {manifest['as_of']}, {manifest['run_id']}")
    for table in manifest["tables"]:
        way = store.root / table / f"as_of={night}"
        if way.resolve() != run / table:
            yield Damage(way, f"does not lead to {(run / table).relative_to(store.root)}")
    yield from run_damages(run, manifest, good, digests)


def run_damages(
    run: Path, manifest: dict[str, Any], good: set[tuple[int, str]] | None = None, digests: bool = True
) -> Iterator[Damage]:
    """What is wrong with the files of a run. `good` are the inodes and digests that were found right, here too."""
    good = set() if good is None else good
    for table, content in manifest["tables"].items():
        known = set()
        for entry in content["files"]:
            path = run / table / entry["path"]
            known.add(path)
            if what := _of_file(path, entry, good, digests):
                yield Damage(path, what)
        for path in sorted((run / table).rglob("*")):
            if path.is_file() and not path.name.startswith((".", "_")) and path not in known:
                yield Damage(path, "is in no manifest")


def _of_file(path: Path, entry: dict[str, Any], good: set[tuple[int, str]], digests: bool) -> str | None:
    try:
        found = path.stat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if found.st_size != entry["bytes"]:
        return f"has {found.st_size:,} bytes, published were {entry['bytes']:,}"
    if digests and (found.st_ino, entry["sha256"]) not in good:
        if digest_of_file(path) != entry["sha256"]:
            return "its bytes are not those that were published"
        good.add((found.st_ino, entry["sha256"]))
    return None
