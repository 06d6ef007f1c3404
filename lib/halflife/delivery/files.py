"""The files of a delivered night: copied as they are, known by their digests."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake._internal import DeltaFileSystemHandler  # deltalake.fs wraps it in what pyarrow 14 cannot write to
from deltalake.transaction import AddAction

from halflife.errors import AuditError
from halflife.warehouse import Stored

PARTITION: Final = "as_of"
CHUNK_BYTES: Final = 8 << 20


@dataclass(frozen=True)
class Change:
    """What makes the files of a partition those of a night: published files to copy, and paths that go."""

    copy: Sequence[Stored]
    remove: Sequence[str]


def change(there: Iterable[str], night: Iterable[Stored]) -> Change:
    """What a partition that holds the paths `there` lacks of a night, and has too much; files without rows are none."""
    kept: dict[str, list[str]] = defaultdict(list)
    for path in there:
        kept[_digest_in(path)].append(path)
    lacking = []
    for file in night:
        if not file.described["rows"]:
            continue
        if same := kept[file.described["sha256"]]:
            same.pop()
        else:
            lacking.append(file)
    return Change(lacking, [path for paths in kept.values() for path in paths])


def copy(file: Stored, night: date, store: DeltaFileSystemHandler) -> AddAction:
    """Copy a published file to a path of its own; returns what a commit says of it.

    The name tells the content's digest, and no two copies share one: nothing that a reader or another delivery needs
    can be overwritten. A request that fails is tried again by the store's client, with back-off. Raises AuditError
    where the file is gone, or its bytes are not those that were published; nobody reads the copy then.
    """
    expected = file.described["sha256"]
    path = f"{PARTITION}={night}/{expected}-{uuid.uuid4().hex[:8]}.parquet"
    digest = hashlib.sha256()
    with opened(file) as source:
        target = store.open_output_stream(path)
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
        target.close()  # type: ignore[attr-defined] # which deltalake's stub forgets; before it there is no such file
        if digest.hexdigest() != expected:
            store.delete_file(path)
            raise _not_as_published(file)
        described = pq.read_metadata(source)
    return AddAction(
        path=path,
        size=file.described["bytes"],
        partition_values={PARTITION: night.isoformat()},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps(statistics(described)),
    )


def schema(file: Stored) -> pa.Schema:
    """The columns of a published file. Raises AuditError where it is gone, or damaged."""
    with opened(file) as source:
        try:
            return pq.read_schema(source)
        except pa.ArrowInvalid as error:
            raise _not_as_published(file) from error


def opened(file: Stored) -> BinaryIO:
    """A published file to read. Raises AuditError where it is gone."""
    try:
        return file.path.open("rb")
    except FileNotFoundError as error:
        raise _not_as_published(file) from error


def _not_as_published(file: Stored) -> AuditError:
    return AuditError(f"{file.path}: not as it was published; run halflife verify; nothing of the night was delivered")


def statistics(described: pq.FileMetaData) -> dict[str, Any]:
    """Rows, and least and greatest value of each column that tells: by them readers leave files out.

    Of ids, names and whole numbers alone; a column of which a row group does not tell is left out.
    """
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    groups = [described.row_group(number) for number in range(described.num_row_groups)]
    for place in range(described.num_columns):
        name = described.schema.column(place).path
        told = [group.column(place).statistics for group in groups if group.num_rows]
        if "." in name or not all(each is not None and each.has_min_max for each in told):
            continue
        if isinstance(told[0].min, str | int) and not isinstance(told[0].min, bool):
            least[name], greatest[name] = min(each.min for each in told), max(each.max for each in told)
            if all(each.has_null_count for each in told):
                nulls[name] = sum(each.null_count for each in told)
    return {"numRecords": described.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _digest_in(path: str) -> str:
    """The digest that a delivered file's name tells; of another's file, something that is no digest."""
    return path.rpartition("/")[2].rpartition("-")[0]
