"""What a run's manifest says of its files, and what identifies a run by it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import halflife
from halflife.digests import digest_of, digest_of_file
from halflife.errors import AuditError


def digests(manifest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What identifies the content of a published run, whatever its files are called: their digests by table."""
    if manifest is None:
        return None
    return {
        name: sorted(file.get("published_sha256", file["sha256"]) for file in table["files"])
        for name, table in manifest["tables"].items()
    }


@cache
def code_version() -> str:
    """Version of the code that runs: the release and a digest of the library's own source files."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return f"{halflife.__version__}+{digest_of([digest_of_file(source) for source in sources])[:12]}"


def describe(folder: Path, known: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
    """Rows, bytes and digest of each file of a staged table. Raises AuditError where there is none."""
    hidden = (".", "_")  # Spark's checksums and markers
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(hidden))
    if not files:
        raise AuditError(f"{folder.name}: the run wrote no file of this table; nothing was published")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a digest lets the others run
        described = list(pool.map(lambda path: known.get(path) or describe_file(path, folder), files))
    return {
        "rows": sum(entry["rows"] for entry in described),
        "bytes": sum(entry["bytes"] for entry in described),
        "files": described,
    }


def describe_file(path: Path, folder: Path) -> dict[str, Any]:
    """Rows, bytes and digest of a file, by its path within a folder. Raises AuditError where it is not Parquet."""
    try:
        rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else 0
    except (OSError, ValueError) as error:
        raise AuditError(f"{folder.name}/{path.name}: not Parquet; nothing was published") from error
    return {
        "path": str(path.relative_to(folder)),
        "rows": rows,
        "bytes": path.stat().st_size,
        "sha256": digest_of_file(path),
    }
