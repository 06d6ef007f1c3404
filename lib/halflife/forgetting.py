"""Privacy requests: users and events that must leave every table, and stay away.

A request waits in the warehouse until the next run of sessionize. That run makes the night's tables without what it
names, publishes them, and then removes the users' rows from all nights before (`erase`). From then on the request holds
digests alone: they keep out what the raw logs still have.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
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

from halflife import crash
from halflife.nights import instant
from halflife.transformations.duplicates import COPY
from halflife.warehouse import Warehouse
from halflife.warehouse.amendment import Amended, amend

FOLDER = "_forget"
SEPARATOR = "\0"  # between a user's id and an event's
NO_REPORT = "<!DOCTYPE html><title>halflife</title>Removed, since users were forgotten: run halflife report again.\n"
WORDS_END = r"(?U)[^\w.@+-]+"  # between the words of a text that could not be taken apart


@dataclass(frozen=True)
class Request:
    """Who and what is to be forgotten, of all that happened before a day."""

    before: str
    users: Sequence[str]  # digests of their ids
    events: Sequence[str]  # digests of user's and event's id
    erase: Sequence[str]  # ids of the users whose rows are still in earlier nights
    indexes: Sequence[int] = ()  # the indexes that they had, from when the tables begin to lose their ids to the end


def ask(store: Warehouse, before: date, users: Iterable[str], events: Iterable[tuple[str, str]]) -> Path:
    """Leave a request in a warehouse; returns its file.

    `events` are (user id, event id); an event that is really there several times goes with all its copies. What came of
    one event is in many rows of the nights that are published: there, all rows of its user go.
    """
    named, single = sorted(set(users)), sorted({(user, re.sub(COPY, r"\1", event)) for user, event in events})
    digests = [_digest(SEPARATOR.join(event)) for event in single]
    everyone = sorted({*named, *(user for user, _ in single)})
    path = store.root / FOLDER / f"{uuid.uuid4().hex}.json"
    with store.lock():
        _replace(path, Request(before.isoformat(), [*map(_digest, named)], digests, everyone))
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
            original = F.regexp_replace(event_id, COPY, "$1")
            named |= F.sha2(F.concat(user_id, F.lit(SEPARATOR), original), 256).isin(*request.events)
        matches |= (event_time < F.lit(instant(date.fromisoformat(request.before)))) & named
    return F.coalesce(matches, F.lit(False))


def of_users(user_id: Column, requests: Collection[Request]) -> Column:
    """Whether a request names the user."""
    digests = [digest for request in requests for digest in request.users]
    return F.coalesce(F.sha2(user_id, 256).isin(*digests), F.lit(False)) if digests else F.lit(False)


def within(text: Column, requests: Collection[Request]) -> Column:
    """Whether one of the words of a text is a user that a request names."""
    return F.coalesce(F.exists(F.split(text, WORDS_END), lambda word: of_users(word, requests)), F.lit(False))


def erase(store: Warehouse, made: date, asked: Mapping[Path, Request]) -> None:
    """Remove the users of requests from every night but the one of sessionize `made` without them; then their ids.

    `asked` are the `requests` that this night was made by: what is asked later waits for the next one.

    Rows with their id or index go; in `users` their index stays and loses its id, and in `quarantine` a text that holds
    an id goes. Runs that were published and replaced are removed whole. A run of another job that began before it is
    not published after it, and what was published meanwhile is looked at as well. May be killed and run again. Raises
    PublishConflictError where another run publishes a night while it is rewritten.
    """
    without_them = store.night_link("sessionize", made).resolve()
    for path, request in asked.items():
        if request.erase:
            _erase(store, path, request, {without_them})


def _erase(store: Warehouse, path: Path, request: Request, clean: set[Path]) -> None:
    """Carry out one request; the runs `clean` hold none of its users."""
    users = pa.array(request.erase, pa.string())
    while True:
        nights = [night for night in store.published() if store.night_link(*night).resolve() not in clean]
        indexes = {*request.indexes, *_indexes(store, [night for job, night in nights if job == "sessionize"], users)}
        request = replace(request, indexes=sorted(indexes))
        with store.lock():  # before a table loses the ids that lead to them: so this can be killed
            _replace(path, request)
        without = partial(_without, users=users, indexes=pa.array(request.indexes, pa.int32()))
        amended: Amended = {}
        for job, night in nights:
            clean.add(amend(store, job, night, without, amended))
        store.drop_replaced()
        with store.lock():
            if clean.issuperset(store.runs()):  # else another was published meanwhile, and may hold them
                store.mark_erased()
                _replace(path, replace(request, erase=[], indexes=[]))
                return


def _indexes(store: Warehouse, nights: Iterable[date], users: pa.Array) -> set[int]:
    """The indexes that the tables of nights have for users."""
    found: set[int] = set()
    for night in nights:
        for file in store.files("users", night):
            table = pq.read_table(file.path)
            found.update(table.filter(pc.is_in(table["user_id"], users))["user_index"].to_pylist())
    return found


def _without(table: str, path: Path, fresh: Path, *, users: pa.Array, indexes: pa.Array) -> bool:
    """Write a file of a table to `fresh` without the users; False, and nothing written, where it has none of them.

    A report shows pairs of some users: it makes room for a note, and is made again when it is asked for.
    """
    if table == "reports":
        fresh.write_text(NO_REPORT, encoding="utf-8")
        return True
    if path.suffix != ".parquet":
        return False
    content = pq.ParquetFile(path)
    changed = False
    schema = content.schema_arrow
    # Metadata of our own, such as how scores are encoded, travels with the schema alone.
    with pq.ParquetWriter(fresh, schema, compression="zstd", store_schema=bool(schema.metadata)) as writer:
        for group in range(content.num_row_groups):
            rows = content.read_row_group(group)
            left = _left(table, rows, users, indexes)
            changed |= not left.equals(rows)
            writer.write_table(left)
    if not changed:
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


def _replace(path: Path, request: Request) -> None:
    """Write a request, whole or not at all; what a killed writer has left, which may hold ids, goes.

    The caller has the warehouse's lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob("*.fresh"):
        left.unlink()
    fresh = path.with_suffix(".fresh")
    fresh.write_text(json.dumps(asdict(request)), encoding="utf-8")
    crash.point("forget: written")
    fresh.replace(path)
