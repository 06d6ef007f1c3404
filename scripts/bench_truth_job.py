"""What a published model says of a synthetic log, beside what is true of it; run by spark-submit, see bench_truth.py.

The last line is an object with rank correlations of half-lives, and how well revivals are flagged.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import functions as F
from scipy.stats import spearmanr

from halflife import config as configuration
from halflife.command import Job
from halflife.decay import decay_integral
from halflife.memory import Pace
from halflife.model import artifact
from halflife.model.artifact import Model
from halflife.model.features import EVENT_COLUMNS
from halflife.scoring import update

Floats = npt.NDArray[np.float64]

ALIKE = 1_000  # events of a type by which users are compared
HALVINGS = 50  # of the interval in which a half-life is looked for
LONGEST_DAYS = 2_000.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("as_of", type=date.fromisoformat)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    begin = time.perf_counter()
    job = Job("truth", options.as_of, configuration.load(options.config), sys.stderr, until=options.as_of)
    truth = {
        name: pd.read_parquet(options.config.parent / f"{name}.parquet")
        for name in ("users", "event_types", "revivals")
    }
    found = {
        **half_lives(job, artifact.load(options.model), truth["users"], truth["event_types"]),
        **revivals(job, options.model, truth["revivals"]),
    }
    print(json.dumps({"seconds": time.perf_counter() - begin, "found": found}))


def half_lives(job: Job, model: Model, users: pd.DataFrame, types: pd.DataFrame) -> dict[str, float]:
    """Rank correlations over users, and over users and event types, of learned half-lives with the true ones.

    The half-life of a user and a type is that of what the same events of the type would add, were they this user's. Of
    the user's own it would say as much about their mix: one that ends a long silence may begin a planted burst, so it
    is rightly remembered for longer, and the quicker a user forgets, the more of the user's events end a silence.
    """
    events = job.warehouse.read(job.spark, "events", job.as_of).where(F.col("strength") > 0)
    rows = events.select("user_id", "user_index", *EVENT_COLUMNS).toPandas()
    seen = rows.drop_duplicates("user_index").set_index("user_index")["user_id"]
    stretch = np.log2(users.set_index("user_id")["stretch"])[seen].to_numpy()
    found = {
        int(kind): log_days(model, alike.sample(min(len(alike), ALIKE), random_state=0), seen.index.to_numpy())
        for kind, alike in rows.groupby("type_index")
    }
    days = np.stack(list(found.values()))
    true = np.log2(types["half_life_days"].to_numpy()[list(found)])[:, None] + stretch
    names = list(job.config.event_types)
    return {
        "events": float(len(rows)),
        "users_and_types": float(spearmanr(days.ravel(), true.ravel()).statistic),
        "users": float(spearmanr(days.mean(axis=0), stretch).statistic),
        **{f"days_{names[kind]}": float(2 ** logs.mean()) for kind, logs in found.items()},
    }


def log_days(model: Model, events: pd.DataFrame, users: npt.NDArray[np.int64]) -> Floats:
    """Logarithm (base 2) of the half-life in days of what `events` would add were they each user's, mean of all: (n,).

    To the strength that a night expects over the horizon, that is: rates within the hour are little of it, and no more
    than that little is learned of them.
    """
    each = {name: np.repeat(events[name].to_numpy(), len(users)) for name in EVENT_COLUMNS}
    jumps = model.jumps({**each, "user_index": np.tile(users, len(events))})
    added = jumps * decay_integral(0.0, model.half_lives_days, model.horizon_days)
    logs = np.log2(halving_days(added, model.half_lives_days))
    means: Floats = logs.reshape(len(events), len(users)).mean(axis=0)
    return means


def halving_days(sums: Floats, half_lives_days: Floats) -> Floats:
    """The time until a sum over channels (n, K) has halved, (n,), by bisection."""
    low, high = np.zeros(len(sums)), np.full(len(sums), LONGEST_DAYS)
    half = sums.sum(axis=1) / 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        more = (sums * np.exp2(-middle[:, None] / half_lives_days)).sum(axis=1) > half
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return (low + high) / 2


def revivals(job: Job, model: Path, truth: pd.DataFrame) -> dict[str, float]:
    """Precision of the flag against all true revivals, and its recall of the planted ones.

    Memory flags a pair by its newest event, so each event after a silence is looked at before its pair's next one:
    memory is merged of the events up to it, as a night between the two would. Events after a silence shorter than half
    the least are left out, which no rule could flag.
    """
    score = job.config.score
    events = job.warehouse.read(job.spark, "events", job.as_of)
    least = score.revival_silence_days / 2 * 86_400
    ids, names = ("user_id", "item_id", "event_time"), {"user_index": "user", "item_index": "item"}
    ended = events.where(F.col("revisit_gap_seconds") >= least).select(*ids, *names).withColumnsRenamed(names)
    newest = ended.toPandas().assign(number=lambda rows: np.arange(len(rows), dtype=np.int32))
    looks = newest[["user", "item", "event_time", "number"]].rename(columns={"event_time": "looked_at"})
    looked_at = job.spark.createDataFrame(looks)
    known = (events["user_index"] == looked_at["user"]) & (events["item_index"] == looked_at["item"])
    known &= events["event_time"] <= looked_at["looked_at"]
    looked = events.join(looked_at, known).orderBy("number", *update.ORDER).toArrow()
    # A pair of its own for each look.
    states = update.jumps(looked, model).set_column(0, "user_index", looked["number"])
    loaded = artifact.load(model)
    pace = Pace(loaded.half_lives_days, loaded.horizon_days, score.revival_retained_share, score.revival_silence_days)
    merged = update.added_up(states, update.Rules(model, pace, score.faded_below))
    flagged = newest[newest["number"].isin(merged.filter(merged["revived"])["user_index"].to_pandas())]
    key = ["user_id", "item_id", "event_time"]
    found, true = (
        set(map(tuple, rows.assign(event_time=pd.to_datetime(rows["event_time"], utc=True))[key].to_numpy()))
        for rows in (flagged, truth)
    )
    planted = set(map(tuple, truth[truth["planted"]][key].to_numpy()))
    return {
        "flagged": float(len(found)),
        "planted": float(len(planted)),
        "precision": len(found & true) / max(len(found), 1),
        "recall_planted": len(found & planted) / max(len(planted), 1),
        "recall_all": len(found & true) / max(len(true), 1),
    }


if __name__ == "__main__":
    main()
