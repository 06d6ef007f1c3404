"""What readers find in a warehouse and in its lake, in parts each of which one rename or one commit changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from halflife import forgetting
from halflife.delivery.table import LakeTable
from halflife.digests import digest_of_file
from halflife.upkeep import verify
from halflife.warehouse import Warehouse
from halflife.warehouse.layout import MANIFEST
from halflife.warehouse.manifest import read_manifest

LAKE_TABLES: Final = ("scores", "recommendations")

Parts = dict[str, object]


def parts(store: Warehouse, lake: Path, command: str) -> Parts:
    """Every published night, every night of the lake, and what else a command of upkeep changes."""
    found: Parts = {f"{job} {night}": _content(store.manifest(job, night)) for job, night in store.published()}
    for table in LAKE_TABLES:
        for night, files in LakeTable(str(lake / table)).files.items():
            found[f"{table} {night} in the lake"] = sorted(_copied(lake / table / path) for path in files)
    if command == "gc":
        for run in store.runs():
            damaged = any(verify.run_damages(run, read_manifest(run / MANIFEST)))
            found[run.name] = "damaged" if damaged else "whole"
    if command == "vacuum":
        found |= {str(file): "there" for file in lake.glob("*/as_of=*/*.parquet")}
    if command == "forget":  # whose second request, of a run that was killed late, asks for the same again
        found["requests"] = {repr(request) for request in forgetting.requests(store).values()}
    return found


def _content(manifest: Mapping[str, Any] | None) -> Mapping[str, list[str]]:
    """The digests of a night's rows by table: a privacy request changes them."""
    assert manifest is not None  # the night is published
    tables = manifest["tables"]
    names = ["metrics"] if manifest["job"] == "evaluate" else list(tables)  # whose other file says when
    return {
        name: sorted(file.get("content_sha256") or file["sha256"] for file in tables[name]["files"]) for name in names
    }


def _copied(file: Path) -> str:
    """The digest that a delivered file's name tells; of one whose content has another, that it is damaged."""
    digest = file.name.rpartition("-")[0]
    return digest if file.exists() and digest_of_file(file) == digest else f"{file.name}: damaged"
