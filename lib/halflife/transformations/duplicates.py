"""Which records are one and the same event.

Every record gets an `event_key`. Equal keys at the same place in the walk over a user's history are found there
(`halflife.histories`), where they are neighbours. Here is what the walk cannot see: the same id at another time, and
files that are read whole every night.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from halflife.config import SourceConfig
from halflife.transformations.joins import with_few

# The id of an event whose log has none: `~` and its key. A copy of an event whose repeats are real has `-k` behind it.
DERIVED = r"^~[0-9a-f]{16}$"
COPY = r"^(~[0-9a-f]{16})-[1-9][0-9]*$"
# Where in the walk a record stands.
PLACE = ("source", "user_id", "event_key", "event_time", "event_id")
PUBLISHED, NO_DAY = -(2**31), 2**31 - 1  # arrived before, and after, all days
NO_DUPLICATES, REAL, REAL_BUT_READ_AGAIN = 0, 1, 2  # repeats


def event_keys(records: DataFrame, sources: Mapping[str, SourceConfig]) -> DataFrame:
    """Add `event_key`, equal for records of the same event, and `repeats`, what records with equal keys mean.

    Takes records or `published` events. Where the repeats of a source are real its own ids are part of the key, and no
    longer ids: `event_id` becomes null. So does an id of the derived form, which is the key.
    """
    by_id = _of_sources(sources, lambda source: source.same_event == "event_id")
    off = _of_sources(sources, lambda source: source.same_event == "off")
    again = _of_sources(sources, lambda source: source.same_event == "off" and not source.dated)
    event_id = F.col("event_id")
    derived = event_id.startswith("~") & event_id.rlike(DERIVED)
    key = (
        F.when(derived, F.conv(F.substring(event_id, 2, 16), 16, -10).cast("bigint"))
        .when(by_id & event_id.isNotNull(), F.xxhash64("source", "user_id", "event_id"))
        .otherwise(_content_key(F.when(off, event_id)))
    )
    repeats = F.when(again, REAL_BUT_READ_AGAIN).when(off, REAL).otherwise(NO_DUPLICATES)
    return records.withColumns(
        {"event_key": key, "repeats": repeats.cast("byte"), "event_id": F.when(~(derived | off), event_id)}
    )


def event_id() -> Column:
    """The id of a keyed record as `events` has it: the log's own, or else the derived one."""
    return F.coalesce("event_id", F.concat(F.lit("~"), F.lpad(F.lower(F.hex("event_key")), 16, "0")))


def published(events: DataFrame, sources: Mapping[str, SourceConfig]) -> DataFrame:
    """Published events in the columns of a record, as `event_keys` takes them."""
    off = _of_sources(sources, lambda source: source.same_event == "off")
    stem = F.regexp_replace("event_id", COPY, "$1")
    return events.withColumns(
        {
            "event_id": F.when(off, stem).otherwise(F.col("event_id")),
            "given_session_id": F.when(F.col("session_given"), F.col("session_id")),
        }
    )


def flag_repeated_ids(
    records: DataFrame, published: DataFrame | None, sources: Mapping[str, SourceConfig], late: timedelta
) -> DataFrame:
    """Add `duplicate`: an accepted record with the id (or key) of an earlier event that stands elsewhere in the walk.

    Only of sources that have event ids. The earlier event lies within `late` of the record, is `published` or
    arrived before it (then: is of an earlier time, of an earlier file), and is no duplicate itself. So `published`,
    which comes from `event_keys` as the records do, must reach `late` further back than they.
    """
    with_ids = [
        name for name, source in sources.items() if source.columns.event_id is not None and source.same_event != "off"
    ]
    if not with_ids:
        return records.withColumn("duplicate", F.lit(False))
    arrived = F.coalesce(F.unix_date("arrival_day"), F.lit(NO_DAY))
    seen = records.where(F.col("reason").isNull()).select(*PLACE, "source_file", arrived.alias("arrived"))
    if published is not None:
        seen = seen.unionByName(published.select(*PLACE, "source_file", F.lit(PUBLISHED).alias("arrived")))
    repeated = _repeated(_in_several_places(seen.where(F.col("source").isin(*with_ids))), late)
    marked = with_few(records, repeated.withColumn("repeated", F.lit(True)), on=PLACE)
    duplicate = F.col("reason").isNull() & F.coalesce("repeated", F.lit(False))
    return marked.withColumn("duplicate", duplicate).drop("repeated")


def old_rows(
    records: DataFrame,
    published_before: DataFrame | None,
    settled_before: datetime | None,
    sources: Mapping[str, SourceConfig],
) -> DataFrame:
    """Judge what files that are read whole every night hold of settled days: published (`duplicate`), or `too_late`.

    `published_before` are all published events before `settled_before`; both are None where there was no night yet:
    then nothing is settled. Where repeats are real, as many copies of an event are duplicates as are published.
    """
    if published_before is None or settled_before is None or all(source.dated for source in sources.values()):
        return records
    open_ = F.col("reason").isNull() & ~F.col("duplicate")
    settled = open_ & F.col("arrival_day").isNull() & (F.col("event_time") < F.lit(settled_before))
    key = ["source", "user_id", "event_key"]
    copies = published_before.groupBy(*key).agg(F.count(F.lit(1)).alias("published"))
    of_event = Window.partitionBy(*key).orderBy("source_file")
    old = (
        records.where(settled)
        .join(copies, on=key, how="left")
        .withColumn("copy", F.when(F.col("repeats") == NO_DUPLICATES, 1).otherwise(F.row_number().over(of_event)))
        .withColumn("duplicate", F.coalesce(F.col("copy") <= F.col("published"), F.lit(False)))
        .withColumn("reason", F.when(~F.col("duplicate"), "too_late"))
    )
    return records.where(~settled).unionByName(old.select(*records.columns))


def _of_sources(sources: Mapping[str, SourceConfig], wanted: Callable[[SourceConfig], bool]) -> Column:
    names = [name for name, source in sources.items() if wanted(source)]
    return F.col("source").isin(*names) if names else F.lit(False)


def _content_key(event_id: Column) -> Column:
    """A digest of all that an event says. What was imputed it does not say."""
    values = {
        "item_id": F.col("item_id"),
        "event_type": F.col("event_type"),
        "event_time": F.col("event_time"),
        "given_session_id": F.col("given_session_id"),
        "dwell_seconds": F.when(~F.col("dwell_imputed"), F.col("dwell_seconds")),
        "rating": F.when(~F.col("rating_imputed"), F.col("rating")),
        "quantity": F.col("quantity"),
        "event_id": event_id,
    }
    # Spark's hash leaves nulls out, so which of the values there are is hashed as well.
    optional = list(values.values())[3:]
    there = sum((F.when(value.isNotNull(), 2**bit).otherwise(0) for bit, value in enumerate(optional)), F.lit(0))
    return F.xxhash64("source", "user_id", *values.values(), there)


def _in_several_places(seen: DataFrame) -> DataFrame:
    """Those of `seen` whose key occurs at two places or more: of nearly all there is one, which two numbers tell."""
    place = F.xxhash64("event_time", "event_id")
    keys = (
        seen.select("event_key", place.alias("place"))
        .groupBy("event_key")
        .agg(F.min("place").alias("first"), F.max("place").alias("last"))
    )
    several = keys.where(F.col("first") != F.col("last")).select("event_key", F.lit(True).alias("several"))
    return with_few(seen, several, on=["event_key"]).where("several").drop("several")


def _repeated(seen: DataFrame, late: timedelta) -> DataFrame:
    """The places (columns PLACE) that an earlier place of the same key makes duplicates."""
    first = F.min(F.struct("arrived", "source_file")).alias("first")
    places = seen.groupBy(*PLACE).agg(first).select(*PLACE, "first.*")
    in_order = places.repartition("source", "user_id", "event_key").sortWithinPartitions(
        "source", "user_id", "event_key", "arrived", "event_time", "source_file", "event_id"
    )
    reach = late // timedelta(microseconds=1)

    def duplicates(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        key, kept = None, array("q")
        for batch in batches:
            marks = []
            columns = (batch.column(name).to_pylist() for name in ("source", "user_id", "event_key", "arrived"))
            times = batch.column("event_time").cast(pa.int64()).to_pylist()
            for *this, arrived, time in zip(*columns, times, strict=True):
                if this != key:
                    key, kept = this, array("q")
                after = bisect_left(kept, time - reach)
                near = after < len(kept) and kept[after] <= time + reach
                marks.append(near and arrived != PUBLISHED)
                if not marks[-1]:
                    kept.insert(bisect_left(kept, time), time)
            yield batch.filter(pa.array(marks, pa.bool_()))

    return in_order.mapInArrow(duplicates, in_order.schema).select(*PLACE)
