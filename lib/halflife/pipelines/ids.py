"""The middle of sessionize: who and what tonight's records name, and the dense indexes of users and items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife import audit, forgetting, sources
from halflife.command import Job
from halflife.config import CatalogueConfig
from halflife.forgetting import Request
from halflife.pipelines import history
from halflife.transformations import features, indexes, pseudonyms
from halflife.transformations.indexes import ITEM, REASON, USER
from halflife.warehouse import Run

TABLES: Final = {USER: "users", ITEM: "items"}
INDEX_COLUMNS: Final = {USER: "user_index", ITEM: "item_index"}


@dataclass(frozen=True)
class Census:
    """The ids of tonight's accepted records, and what was rejected."""

    ids: DataFrame  # kind, id, first_day; and known: whether the id has its index
    new: Mapping[int, int]  # how many ids of a kind have none yet
    active_users: int
    first_day: date | None  # of the earliest event
    reasons: Counter[str]  # why records were rejected


def census(job: Job, judged: DataFrame, before: date | None) -> Census:
    """Count what a night's judged records hold, in one pass over them."""
    seen = indexes.census(judged)
    known = None if before is None else _numbered(job, before)
    joined = seen.withColumn("known", F.lit(None)) if known is None else seen.join(known, on=["kind", "id"], how="left")
    counted = joined.withColumn("known", F.col("known").isNotNull()).cache()
    rows = (
        counted.groupBy("kind", F.when(F.col("kind") == REASON, F.col("id")).alias("reason"))
        .agg(
            F.count(F.lit(1)).alias("ids"),
            F.count_if(~F.col("known")).alias("new"),
            F.sum("rows").alias("rows"),
            F.min(F.to_date("first_time")).alias("first_day"),
        )
        .collect()
    )
    of_kind = {row["kind"]: row for row in rows if row["kind"] != REASON}
    return Census(
        ids=counted.where(F.col("kind") != REASON),
        new={kind: of_kind[kind]["new"] if of_kind else 0 for kind in (USER, ITEM)},
        active_users=of_kind[USER]["ids"] if of_kind else 0,
        first_day=of_kind[USER]["first_day"] if of_kind else None,
        reasons=Counter({row["reason"]: row["rows"] for row in rows if row["kind"] == REASON}),
    )


def _numbered(job: Job, before: date) -> DataFrame:
    """The ids that have an index: kind, id and `known`."""
    users, items = (job.warehouse.read(job.spark, table, before) for table in ("users", "items"))
    ids = users.select(F.lit(USER).alias("kind"), F.col("user_id").alias("id")).unionByName(
        items.select(F.lit(ITEM).alias("kind"), F.col("item_id").alias("id"))
    )
    return ids.withColumn("known", F.lit(True))


def stage_users(job: Job, night: Run, before: date | None, found: Census, requests: Sequence[Request]) -> None:
    """Number the new users behind the old ones: those of the catalogue, and those that only the log knows."""
    asked = forgetting.of_users(F.col("user_id"), requests)
    if before is not None and any(request.erase for request in requests):
        # The index stays. It loses its id unless the user has events that are to be kept.
        old = job.warehouse.read(job.spark, "users", before)
        left = history.remaining(job, before, requests).where(asked).select("user_id")
        staying = left.unionByName(_seen(found, USER).select("user_id")).distinct().withColumn("stays", F.lit(True))
        named = old.join(staying, on="user_id", how="left")
        kept = named.withColumn("user_id", F.when(~asked | F.col("stays"), F.col("user_id"))).drop("stays")
        night.write("users", kept, sort=["user_index"])
    else:
        _keep(job, night, before, "users")
    catalogue = job.config.users
    listed = None if catalogue is None else _listed(job, "users", catalogue, "user_id").where(~asked)
    if before is None or listed is not None or found.new[USER]:
        new, rows = _new(job, before, found, USER, listed)
        if before is None or rows:  # a file without rows each night would be 365 of them in a year
            night.add("users", new)


def stage_items(job: Job, night: Run, before: date | None, found: Census) -> None:
    """The same for items; where there is a catalogue, all items get tonight's features."""
    catalogue = job.config.items
    if catalogue is None:
        _keep(job, night, before, "items")
        if before is None or found.new[ITEM]:
            night.add("items", features.unknown(_new(job, before, found, ITEM, None)[0]))
        return
    listed = _listed(job, "items", catalogue, "item_id").cache()
    old = None if before is None else job.warehouse.read(job.spark, "items", before)
    new, _ = _new(job, before, found, ITEM, listed)
    night.write("items", features.refreshed(old, new, listed), sort=["item_index"])


def _listed(job: Job, table: str, catalogue: CatalogueConfig, id_column: str) -> DataFrame:
    """A catalogue's rows. Raises AuditError where two have the same id."""
    listed = sources.read_catalogue(job.spark, table, catalogue).withColumnRenamed("id", id_column)
    if table == "users" and job.pseudonyms is not None:
        listed = listed.withColumn(id_column, pseudonyms.of(F.col(id_column), job.pseudonyms))
    audit.unique(f"{table}.path {catalogue.path}", listed, id_column)
    return listed


def _keep(job: Job, night: Run, before: date | None, table: str) -> None:
    """Keep the table of the night before as it is."""
    if before is not None:
        night.keep(table, job.warehouse.files(table, before))


def _seen(found: Census, kind: int) -> DataFrame:
    """The ids of a kind, in the column that they have in the tables."""
    of_kind = found.ids.where(F.col("kind") == kind)
    return of_kind.select("first_day", F.col("id").alias(indexes.ID_COLUMNS[kind]), "known")


def _new(job: Job, before: date | None, found: Census, kind: int, listed: DataFrame | None) -> tuple[DataFrame, int]:
    """The ids of a kind that have no index, with the ones they get: those of the log, and those `listed`; how many.

    Raises AuditError where the indexes do not follow on the old ones.
    """
    table, id_column, index_column = TABLES[kind], indexes.ID_COLUMNS[kind], INDEX_COLUMNS[kind]
    start = 0 if before is None else sum(file.described["rows"] for file in job.warehouse.files(table, before))
    ids = _seen(found, kind).where(~F.col("known"))
    if listed is not None:
        ids = indexes.with_catalogue(ids, listed.select(id_column), id_column)
        if before is not None:
            old = job.warehouse.read(job.spark, table, before)
            ids = ids.join(old.select(id_column), on=id_column, how="left_anti")
    new = indexes.number(ids.select("first_day", id_column), id_column, index_column, start).cache()
    return new, audit.numbered(table, new, index_column, start)
