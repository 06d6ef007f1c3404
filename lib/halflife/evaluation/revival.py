"""Whether interest that came back stayed: the memory's revived flags against what followed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife.decay import SECONDS_PER_DAY

_PAIR = ["user_index", "item_index"]


@dataclass(frozen=True)
class Revivals:
    """The memory of a night (columns of MEMORY), and the silence that its flags ask for."""

    memory: DataFrame
    silence_days: float


def revival_metrics(events: DataFrame, cut: datetime, horizon_days: float, night: Revivals) -> dict[str, float]:
    """How far a flag foretells that the user comes again.

    A *comeback* is a pair whose newest event lies in the horizon before the cut, silence_days or more after the one
    before it. It is *flagged* where the memory says revived (it had also faded below the retained share), and it
    *holds* where a positive event follows within the horizon.

        revival_precision    share of the flagged that hold
        revival_base_rate    the same share of all other pairs with an event in the horizon before the cut
        revival_recall       share of the comebacks that hold which are flagged
        revival_lead_days    mean days from the cut to the first event that follows, of the flagged that hold
        revival_flagged      how many are flagged

    What has nothing to divide by is left out.
    """
    recent = F.col("anchor_time") >= F.lit(cut - timedelta(days=horizon_days))
    flags = night.memory.where(recent & (F.col("anchor_time") < F.lit(cut))).select(*_PAIR, "revived")
    # Of events at the same moment the longest gap counts: the others are part of the same visit.
    gap = F.max_by("revisit_gap_seconds", F.struct("event_time", F.coalesce("revisit_gap_seconds", F.lit(0.0))))
    gaps = events.where(F.col("event_time") < F.lit(cut)).groupBy(*_PAIR).agg(gap.alias("gap_seconds"))
    after = _positive_events(events, cut, horizon_days).groupBy(*_PAIR).agg(F.min("event_time").alias("next"))
    holds = F.col("next").isNotNull()
    comeback = F.coalesce(F.col("gap_seconds") >= night.silence_days * SECONDS_PER_DAY, F.lit(False))
    lead = (F.unix_micros("next") / F.lit(1e6) - cut.timestamp()) / SECONDS_PER_DAY
    sums = (
        flags.join(gaps, on=_PAIR, how="left")
        .join(after, on=_PAIR, how="left")
        .agg(
            F.count_if("revived").alias("flagged"),
            F.count_if(F.col("revived") & holds).alias("right"),
            F.count_if(~F.col("revived")).alias("others"),
            F.count_if(~F.col("revived") & holds).alias("others_held"),
            F.count_if(comeback & holds).alias("held"),
            F.count_if(comeback & holds & F.col("revived")).alias("found"),
            F.sum(F.when(F.col("revived"), lead)).alias("lead"),
        )
        .first()
    )
    assert sums is not None  # a sum without groups has one row
    ratios = {
        "revival_precision": (sums["right"], sums["flagged"]),
        "revival_base_rate": (sums["others_held"], sums["others"]),
        "revival_recall": (sums["found"], sums["held"]),
        "revival_lead_days": (sums["lead"], sums["right"]),
    }
    found = {name: float(part) / whole for name, (part, whole) in ratios.items() if whole}
    return {**found, "revival_flagged": float(sums["flagged"])}


def _positive_events(events: DataFrame, since: datetime, horizon_days: float) -> DataFrame:
    """The positive events from `since` on, within the horizon."""
    until = since + timedelta(days=horizon_days)
    inside = (F.col("event_time") >= F.lit(since)) & (F.col("event_time") < F.lit(until))
    return events.where(inside & (F.col("strength") > 0))
