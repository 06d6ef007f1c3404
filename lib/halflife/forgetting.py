"""Privacy requests: users and events that must leave every table, and stay away.

A request waits in the warehouse until the next run of sessionize. That run makes the night's tables without what it
names, publishes them, and then removes the users' rows from all nights before (`erase`). From then on the request holds
digests alone: they keep out what the raw logs still have.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial, reduce
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column
from pyspark.sql import functions as F

from halflife.nights import instant
from halflife.warehouse import Warehouse

FOLDER = "_forget"
SEPARATOR = "\0"  # between a user's id and an event's


@dataclass(frozen=True)
class Request:
    """Who and what is to be forgotten, of all that happened before a day."""

    before: str
    users: Sequence[str]  # digests of their ids
    events: Sequence[str]  # digests of user's and event's id
    erase: Sequence[str]  # ids of the users whose rows are still in earlier nights


def ask(store: Warehouse, before: date, users: Iterable[str], events: Iterable[tuple[str, str]]) -> Path:
    """Leave a request in a warehouse; returns its file.

    `events` are (user id, event id). What came of one event is in many rows of the nights that are published: there,
    all rows of its user go.
    """
    named, single = sorted(set(users)), sorted(set(events))
    digests = [_digest(SEPARATOR.join(event)) for event in single]
    everyone = sorted({*named, *(user for user, _ in single)})
    path = store.root / FOLDER / f"{uuid.uuid4().hex}.json"
    _write(path, Request(before.isoformat(), [*map(_digest, named)], digests, everyone))
    return path


def requests(store: Warehouse) -> dict[Path, Request]:
    """All requests of a warehouse by their files, those that are done too."""
    paths = sorted((store.root / FOLDER).glob("*.json"))
    return {path: Request(**json.loads(path.read_text(encoding="utf-8"))) for path in paths}


def asked(user_id: Column, event_id: Column, event_time: Column, requests: Collection[Request]) -> Column:
    """Whether a request names a row's user, or its event, and reaches as far as its time."""
    matches = F.lit(False)
    for request in requests:
        named = F.sha2(user_id, 256).isin(*request.users) if request.users else F.lit(False)
        if request.events:
            named |= F.sha2(F.concat(user_id, F.lit(SEPARATOR), event_id), 256).isin(*request.events)
        matches |= (event_time < F.lit(instant(date.fromisoformat(request.before)))) & named
    return F.coalesce(matches, F.lit(False))


def of_users(user_id: Column, requests: Collection[Request]) -> Column:
    """Whether a request names the user."""
    digests = [digest for request in requests for digest in request.users]
    return F.coalesce(F.sha2(user_id, 256).isin(*digests), F.lit(False)) if digests else F.lit(False)


def erase(store: Warehouse, since: date) -> None:
    """Remove the users of all requests from all nights before `since`; then forget their ids.

    Rows with their id or index go; in `users` their index stays and loses its id, and in `quarantine` a text that holds
    an id goes. May be killed and run again.
    """
    for path, request in requests(store).items():
        if not request.erase:
            continue
        users = pa.array(request.erase, pa.string())
        rewritten: dict[int, Path] = {}  # by inode: nights share files
        for job, night in store.published():
            if night < since:
                without = partial(_without, users=users, indexes=_indexes(store, night, users), rewritten=rewritten)
                store.amend(job, night, without)
        _write(path, replace(request, erase=[]))


def _indexes(store: Warehouse, night: date, users: pa.Array) -> pa.Array:
    """The indexes that a night's tables have for users."""
    known = store.last_night("sessionize", night, inclusive=True)
    tables = [] if known is None else [pq.read_table(file.path) for file in store.files("users", known)]
    found = [table.filter(pc.is_in(table["user_id"], users))["user_index"] for table in tables]
    return pa.array([index for part in found for index in part.to_pylist()], pa.int32())


def _without(
    table: str, path: Path, fresh: Path, *, users: pa.Array, indexes: pa.Array, rewritten: dict[int, Path]
) -> bool:
    """Write a file of a table to `fresh` without the users; False, and nothing written, where it has none of them."""
    if path.suffix != ".parquet":
        return False
    inode = path.stat().st_ino
    if inode in rewritten:
        os.link(rewritten[inode], fresh)
        return True
    content = pq.ParquetFile(path)
    changed = False
    with pq.ParquetWriter(fresh, content.schema_arrow, compression="zstd", store_schema=False) as writer:
        for group in range(content.num_row_groups):
            rows = content.read_row_group(group)
            left = _left(table, rows, users, indexes)
            changed |= not left.equals(rows)
            writer.write_table(left)
    if changed:
        rewritten[inode] = path
    else:
        fresh.unlink()
    return changed


def _left(table: str, rows: pa.Table, users: pa.Array, indexes: pa.Array) -> pa.Table:
    """What is left of a table's rows without the users."""
    if table == "users":
        return _blank(rows, "user_id", pc.is_in(rows["user_id"], users))
    if table == "quarantine":
        named = [pc.match_substring(rows["raw"], user) for user in users.to_pylist()]
        return _blank(rows, "raw", reduce(pc.or_, named))
    for key, values in (("user_id", users), ("user_index", indexes)):
        if key in rows.column_names:
            return rows.filter(pc.invert(pc.is_in(rows[key], values)))
    return rows


def _blank(rows: pa.Table, name: str, where: pa.ChunkedArray) -> pa.Table:
    place = rows.column_names.index(name)
    none = pa.scalar(None, rows.schema.field(name).type)
    return rows.set_column(place, rows.schema.field(name), pc.if_else(pc.fill_null(where, False), none, rows[name]))


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _write(path: Path, request: Request) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(asdict(request)), encoding="utf-8")
    fresh.replace(path)
