"""What a run's manifest says of its files, and what identifies a run by it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

import pyarrow.parquet as pq
from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, ValidationError

from halflife.digests import digest_of_file
from halflife.errors import AuditError, UnreadableInputError

CHUNK_BYTES: Final = 1 << 20
UNFINISHED: Final = "_temporary"  # where Spark's tasks write until they commit
RESTORE: Final = "restore it, or remove the night's link and run its job again"


def _plain(path: str) -> str:
    """A path within its table's folder. Raises ValueError where it leads out of it."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError("leads out of the table's folder")
    return path


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class File(BaseModel):
    """One file of a table."""

    path: Annotated[str, AfterValidator(_plain)]
    rows: NonNegativeInt
    bytes: NonNegativeInt
    sha256: Digest
    content_sha256: Digest | None = None  # of its rows alone, as far as its writer tells them
    published_sha256: Digest | None = None  # where a privacy request has rewritten it since


class Table(BaseModel):
    """The files of one table, by name, and their sums."""

    rows: NonNegativeInt
    bytes: NonNegativeInt
    files: list[File]


class Manifest(BaseModel):
    """What every manifest holds; `inputs`, `config` and `metrics` are as their job wrote them."""

    run_id: str
    job: str
    as_of: date
    inputs: dict[str, Any]
    inputs_digest: Digest
    code: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    published_at: datetime
    tables: dict[str, Table]


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest as it was written. Raises UnreadableInputError where it is missing or damaged."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        Manifest.model_validate(manifest)
    except FileNotFoundError as error:
        raise UnreadableInputError(path, "it is missing", RESTORE) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnreadableInputError(path, f"{where}: {first['msg']}", RESTORE) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableInputError(path, str(error), RESTORE) from error
    return manifest


def digests(manifest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What identifies the content of a published run, whatever its files are called: their digests by table."""
    if manifest is None:
        return None
    return {name: sorted(map(identity, table["files"])) for name, table in manifest["tables"].items()}


def identity(file: Mapping[str, Any]) -> str:
    """The digest by which a file of a manifest is known: equal rows, written in equal steps, have equal ones."""
    for name in ("published_sha256", "content_sha256"):
        if found := file.get(name):
            return str(found)
    return str(file["sha256"])


def describe(
    folder: Path, known: Mapping[Path, dict[str, Any]], returned: Collection[str] | None = None
) -> dict[str, Any]:
    """Rows, bytes and digest of each file of a staged table. Raises AuditError where there is none.

    Where its tasks have `returned` the names of their files, of those and the `known` ones alone.
    """
    files = sorted(_visible(folder))
    if returned is not None:
        files = [path for path in files if path.name in returned or path in known]
    if not files:
        raise AuditError(f"{folder.name}: the run wrote no file of this table; nothing was published")
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a digest lets the others run
        described = list(pool.map(lambda path: known.get(path) or describe_file(path, folder), files))
    return {
        "rows": sum(entry["rows"] for entry in described),
        "bytes": sum(entry["bytes"] for entry in described),
        "files": described,
    }


def drop_others(run: Path, tables: Mapping[str, Any]) -> None:
    """Remove the files of a run that readers would see and `tables` does not describe, and Spark's unfinished ones."""
    for table, content in tables.items():
        known = {run / table / entry["path"] for entry in content["files"]}
        for path in set(_visible(run / table)) - known:
            path.unlink()
        shutil.rmtree(run / table / UNFINISHED, ignore_errors=True)


def _visible(folder: Path) -> Iterator[Path]:
    """The files of a table's folder that are not Spark's checksums and markers, nor unfinished."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts):
            yield path


def describe_file(path: Path, folder: Path) -> dict[str, Any]:
    """Rows, bytes and digests of a file, by its path within a folder. Raises AuditError where it is not Parquet."""
    described = {"path": str(path.relative_to(folder)), "rows": 0, "bytes": path.stat().st_size}
    if path.suffix != ".parquet":
        return described | {"sha256": digest_of_file(path)}
    try:
        content = pq.read_metadata(path)
    except (OSError, ValueError) as error:
        raise AuditError(f"{folder.name}/{path.name}: not Parquet; nothing was published") from error
    pages, whole = _digests_of_parquet(path, content)
    return described | {"rows": content.num_rows, "sha256": whole, "content_sha256": pages}


def _digests_of_parquet(path: Path, content: pq.FileMetaData) -> tuple[str, str]:
    """Digest of a file's pages with its schema, and of all its bytes.

    Parquet's Java writer names a column's encodings in the order of a HashSet of enums, which is another one in each
    JVM: so its footers differ between files that are equal but for that.
    """
    with path.open("rb") as file:
        digest, left = sha256(), path.stat().st_size - content.serialized_size - 8  # of the footer's length and magic
        while left:
            chunk = file.read(min(left, CHUNK_BYTES))
            digest.update(chunk)
            left -= len(chunk)
        pages = digest.copy()
        pages.update(content.schema.to_arrow_schema().remove_metadata().to_string().encode())
        digest.update(file.read())
    return pages.hexdigest(), digest.hexdigest()


def make_durable(folder: Path, known: Collection[Path]) -> None:
    """Have the files of a folder and their names on the disk itself; those `known` are there already."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    files = [path for each in folders for path in each.iterdir() if path.is_file() and path not in known]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # most of it is waiting
        list(pool.map(sync, files))
        list(pool.map(sync, folders))


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
