"""The Parquet files of one task: one a part of a table, written as the rows come."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from halflife.histories import sequences, tables


@dataclass(frozen=True)
class Form:
    """How a table's rows lie in its files."""

    schema: pa.Schema
    codec: Mapping[str, Any]
    row_group_bytes: int = 1 << 24


SMALL: Final = {"compression": "zstd", "compression_level": 1}
# Sequences are written again with every night of their users: there time counts for more than size.
FAST: Final = {"compression": "lz4"}
FORMS: Final = {
    "events": Form(tables.EVENTS, SMALL),
    "sessions": Form(tables.SESSIONS, SMALL),
    "sequences": Form(sequences.SCHEMA, FAST),
    # Each bucket has a row group of its own: one file has those of many.
    "active_sequences": Form(sequences.SCHEMA, FAST, row_group_bytes=1),
}
# Least and greatest values of all columns would cost a fifth of the time; readers look for those of time and user.
STATISTICS: Final = ("user_index", "event_time", "start_time", "end_time")


class _File:
    """A file that is being written; rows wait until they are enough for a row group."""

    def __init__(self, path: Path, table: str) -> None:
        form = FORMS[table]
        self.path, self.rows = path, 0
        self._group_bytes = form.row_group_bytes
        self._writer = pq.ParquetWriter(
            path,
            form.schema,
            use_dictionary=[field.name for field in form.schema if pa.types.is_dictionary(field.type)],
            write_statistics=list(STATISTICS),
            store_schema=False,  # so that readers see plain text where we have dictionaries
            **form.codec,
        )
        self._waiting: list[pa.Table] = []

    def write(self, rows: pa.Table) -> None:
        self.rows += len(rows)
        self._waiting.append(rows)
        if sum(part.nbytes for part in self._waiting) >= self._group_bytes:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        rows = pa.concat_tables(self._waiting)
        self._writer.write_table(rows if len(self._waiting) == 1 else rows.unify_dictionaries(), len(rows))
        self._waiting = []

    def discard(self) -> None:
        """Close and remove the file."""
        self._writer.close()
        self.path.unlink()


class Files:
    """All files of a task, as a context manager: after an error none of them is left."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = {table: Path(folder) for table, folder in folders.items()}
        self._open: dict[tuple[str, str], _File] = {}
        self._closed: dict[tuple[str, str], _File] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for file in [*self._open.values(), *self._closed.values()] if kind else []:
            file.discard()

    def write(self, table: str, part: str, rows: pa.Table) -> None:
        """Add rows to the file of a table's part."""
        if (table, part) not in self._open:
            path = self._folders[table] / f"{part}-{uuid.uuid4().hex}.parquet"
            self._open[table, part] = _File(path, table)
        self._open[table, part].write(rows)

    def close(self, table: str, part: str) -> None:
        """Close the file of a part: all its rows are written."""
        file = self._closed[table, part] = self._open.pop((table, part))
        file.close()

    def close_all(self) -> list[dict[str, Any]]:
        """Close what is open; returns one row a file."""
        for key in list(self._open):
            self.close(*key)
        return [
            {"table": table, "part": part, "file": file.path.name, "rows": file.rows}
            for (table, part), file in self._closed.items()
        ]
