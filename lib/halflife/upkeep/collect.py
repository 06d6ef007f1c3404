"""Garbage: what runs have left in a warehouse that no reader needs any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from halflife.errors import HalflifeError
from halflife.status import FOLDER as STATUS
from halflife.warehouse import Warehouse, lease
from halflife.warehouse.layout import MANIFEST
from halflife.warehouse.manifest import read_manifest


@dataclass(frozen=True)
class Garbage:
    """A path that can go, why, and the bytes that its removal frees: those of files that no other run shares."""

    path: Path
    why: str
    bytes: int


def garbage(store: Warehouse, replaced_days: int, now: datetime) -> list[Garbage]:
    """What can go: runs that were replaced `replaced_days` ago, what killed runs have staged, old status files."""
    before = now - timedelta(days=replaced_days)
    found: list[tuple[Path, str]] = [(path, "staged by a run that was killed") for path in store.dead()]
    current = store.current_runs()
    for run in store.runs():
        if run not in current and _unused_since(store, run) < before:
            found.append((run, f"no night is this run since {replaced_days} days"))
    for file in sorted((store.root / STATUS).glob("*.*")):  # and what a killed run has left beside it
        if _changed(file) < before and not lease.is_held(file.with_name(f"{file.name.partition('.')[0]}.json")):
            found.append((file, f"tells of a run more than {replaced_days} days ago"))
    shared = Counter(file.stat().st_ino for path, _ in found for file in _files(path))
    freed: set[int] = set()
    return [Garbage(path, why, _freed(path, shared, freed)) for path, why in found]


def remove(store: Warehouse, pieces: list[Garbage]) -> None:
    """Remove garbage. A run that has become a night's again meanwhile stays."""
    store.drop_dead()
    with store.lock():
        current = store.current_runs()
        for piece in pieces:
            if piece.path in current or not piece.path.exists():
                continue
            if piece.path.is_dir():
                store.discard([piece.path])
            else:
                piece.path.unlink(missing_ok=True)


def _unused_since(store: Warehouse, run: Path) -> datetime:
    """When the night of a run was given to another one last; when it was moved there, where it never was a night's."""
    try:
        manifest = read_manifest(run / MANIFEST)
        return _changed(store.night_link(manifest["job"], date.fromisoformat(manifest["as_of"])))
    except (HalflifeError, OSError):
        return _changed(run)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_ctime, UTC)


def _files(path: Path) -> Iterator[Path]:
    yield from [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())


def _freed(path: Path, shared: Counter[int], freed: set[int]) -> int:
    """Bytes of a path's files all of whose names are garbage, each counted once."""
    total = 0
    for file in _files(path):
        found = file.stat()
        if found.st_nlink <= shared[found.st_ino] and found.st_ino not in freed:
            freed.add(found.st_ino)
            total += found.st_size
    return total
