"""A published night with some of its files rewritten: what a privacy request needs, and nothing else may."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from halflife.warehouse.layout import MANIFEST, RUNS
from halflife.warehouse.manifest import describe_file, identity, read_manifest
from halflife.warehouse.run import Run, share
from halflife.warehouse.store import Warehouse

# (table, file, fresh): write a file of a table anew to the path `fresh`, or return False.
Rewrite = Callable[[str, Path, Path], bool]
# By inode, what a file has become; None: it stays. Nights share files: each is rewritten once for all of them.
Amended = dict[int, Path | None]


def amend(store: Warehouse, job: str, as_of: date, rewrite: Rewrite, amended: Amended | None = None) -> Path:
    """Publish a night again with the files that `rewrite` writes anew in place of those they were, in one step.

    Returns the folder of the run that the night is then.

    The manifest stays what it was but for these files; it keeps the digests that they were published with, by which
    the night is known. The former run stays until `drop_replaced`; a night without such a file is left alone. Raises
    PublishConflictError where another run publishes the night meanwhile.
    """
    amended = {} if amended is None else amended
    expected, old = store.target(job, as_of), store.night_link(job, as_of).resolve()
    manifest = read_manifest(old / MANIFEST)
    run_id = f"{manifest['run_id'].rpartition('-')[0]}-{uuid.uuid4().hex[:8]}"
    with store.staged(store.open(job, as_of, run_id, manifest["inputs"], expected)) as run:
        home = store.root / RUNS / run_id
        changed = [
            _amend_table(table, content, old / table, run, home / table, rewrite, amended)
            for table, content in manifest["tables"].items()
        ]
        if not any(changed):
            return old
        store.make_current(run, {**manifest, "run_id": run_id})
        return home


def _amend_table(
    table: str, content: dict[str, Any], old: Path, run: Run, home: Path, rewrite: Rewrite, amended: Amended
) -> bool:
    """Stage a table of a run that will have its `home`; returns whether a file is another, and `content` says so."""
    changed, folder = False, run.directory / table
    for place, entry in enumerate(content["files"]):
        file, fresh = old / entry["path"], folder / entry["path"]
        fresh.parent.mkdir(parents=True, exist_ok=True)
        inode = file.stat().st_ino
        if inode not in amended:
            amended[inode] = home / entry["path"] if rewrite(table, file, fresh) else None
        elif (before := amended[inode]) is not None:
            share(before, fresh)
        if amended[inode] is None:
            share(file, fresh)
            run.linked[fresh] = entry
            continue
        changed = True
        described = describe_file(fresh, folder)
        if described["sha256"] != entry["sha256"]:
            content["files"][place] = {**described, "published_sha256": identity(entry)}
    content["rows"] = sum(entry["rows"] for entry in content["files"])
    content["bytes"] = sum(entry["bytes"] for entry in content["files"])
    return changed
