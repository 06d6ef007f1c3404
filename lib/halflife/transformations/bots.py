"""Users who do more than a person can."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife.config import SessionizeConfig
from halflife.transformations.cleaning import arrival
from halflife.transformations.joins import with_few


def flag(judged: DataFrame, config: SessionizeConfig) -> DataFrame:
    """Give all accepted records of a user on an arrival day the reason `bot_like_user` where they are too many.

    Too many: more than `max_events_per_minute` in one minute, or more than `max_events_per_day` on one day (UTC, of the
    event's time). Counted per day of arrival, so that a later file never changes what an earlier one was judged.
    """
    if config.max_events_per_minute is None and config.max_events_per_day is None:
        return judged
    dated = judged.withColumn("arrived", arrival())
    bots = _bots(dated.where(F.col("reason").isNull()), config)
    marked = with_few(dated, bots.withColumn("bot", F.lit(True)), on=["user_id", "arrived"])
    reason = F.when(F.col("reason").isNull() & F.col("bot"), "bot_like_user").otherwise(F.col("reason"))
    return marked.withColumn("reason", reason).drop("arrived", "bot")


def _bots(accepted: DataFrame, config: SessionizeConfig) -> DataFrame:
    """The (user_id, arrived) with too many records: counts of counts, so no task sees all records of a user."""
    minute = F.date_trunc("minute", "event_time").alias("minute")
    by_minute = accepted.groupBy("user_id", "arrived", minute).agg(F.count(F.lit(1)).alias("events"))
    by_day = by_minute.groupBy("user_id", "arrived", F.to_date("minute")).agg(
        F.max("events").alias("in_a_minute"), F.sum("events").alias("in_a_day")
    )
    return (
        by_day.where(_more("in_a_minute", config.max_events_per_minute) | _more("in_a_day", config.max_events_per_day))
        .select("user_id", "arrived")
        .distinct()
    )


def _more(name: str, most: int | None) -> Column:
    return F.lit(False) if most is None else F.col(name) > most
