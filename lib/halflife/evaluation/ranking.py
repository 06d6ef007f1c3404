"""Rankings scored block by block of users: baselines, a model and published lists on the same cases.

Spark brings the rows of a block of users together, NumPy does the block's work, and one row per user, model and
metric comes out; nothing that grows with users is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, GroupedData
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.decay import SECONDS_PER_DAY
from halflife.evaluation import baselines, metrics, protocol
from halflife.evaluation.baselines import History
from halflife.evaluation.protocol import Catalogue
from halflife.topn import top_columns

Integers = NDArray[np.int64]
Ranker = Callable[[History], Integers]

# One row is one user's value of one metric under one model; users have one case at most.
USER_METRICS: Final = T.StructType(
    [
        T.StructField("user_index", T.IntegerType(), False),
        T.StructField("model", T.StringType(), False),
        T.StructField("metric", T.StringType(), False),
        T.StructField("value", T.DoubleType(), False),
    ]
)

_LISTED: Final = "listed_columns"


class BlockScorer(Protocol):
    """Interest of a block of users in the given items, each user at an instant of their own.

    It runs in Spark's Python workers, so it must survive cloudpickle.
    """

    def __call__(
        self,
        users: Integers,
        at_seconds: NDArray[np.float64],
        item_indices: Integers,
        states: pd.DataFrame,
        memory: pd.DataFrame,
    ) -> NDArray[np.floating[Any]]:
        """Scores (B, n) of users (B,) at epoch seconds (B,) for items (n,); only their order counts.

        `states` has one row for each of `users`, in that order: user_index, anchor_seconds and readouts of
        USER_STATES, null for a user without a state. `memory` holds the rows of MEMORY of these users and perhaps
        of some others, in any order: user_index, item_index, anchor_seconds, positive, negative.
        """
        ...


@dataclass(frozen=True)
class ModelInputs:
    """A model to be ranked with: its name, its scorer, and its tables as they were known at the cut."""

    name: str
    scorer: BlockScorer
    states: DataFrame
    memory: DataFrame


@dataclass(frozen=True)
class PublishedLists:
    """Lists published as of the cut, and the name to show: one row is one (user_index, rank, item_index)."""

    name: str
    recommendations: DataFrame


@dataclass(frozen=True)
class _BlockWork:
    """All that a worker needs to evaluate a block, broadcast with the function."""

    rankers: Mapping[str, Ranker]
    catalogue: Catalogue
    cutoffs: tuple[int, ...]
    model_name: str | None
    scorer: BlockScorer | None
    lists_name: str | None

    def evaluate(self, frame: pd.DataFrame, memory: pd.DataFrame | None) -> pd.DataFrame:
        """USER_METRICS of one block of cases."""
        parts = [_user_metrics(name, frame, ranked, self.cutoffs) for name, ranked in self._ranked(frame, memory)]
        return pd.concat(parts, ignore_index=True)

    def _ranked(self, frame: pd.DataFrame, memory: pd.DataFrame | None) -> list[tuple[str, Integers]]:
        histories = _histories(frame)
        ranked = [(name, np.stack([rank(history) for history in histories])) for name, rank in self.rankers.items()]
        if self.scorer is not None and self.model_name is not None and memory is not None:
            scores = self.scorer(
                frame["user_index"].to_numpy(dtype=np.int64),
                frame["at_seconds"].to_numpy(dtype=np.float64),
                self.catalogue.item_indices,
                frame[["user_index", "anchor_seconds", "readouts"]],
                memory,
            )
            ranked.append((self.model_name, top_columns(scores, max(self.cutoffs))))
        if self.lists_name is not None:
            ranked.append((self.lists_name, _padded(frame[_LISTED], max(self.cutoffs))))
        return ranked


def baseline_rankers(
    kept: Catalogue, half_lives_days: Mapping[str, float], cutoffs: Sequence[int]
) -> dict[str, Ranker]:
    """Popularity, personal frequency, and a decayed frequency for each name and half-life."""
    count, share = max(cutoffs), kept.popularity_share
    rankers: dict[str, Ranker] = {
        "popularity": lambda _history: baselines.popularity(share.size, count),
        "personal_frequency": partial(baselines.frequency, popularity_share=share, count=count),
    }
    for name, half_life_days in half_lives_days.items():
        rankers[name] = partial(
            baselines.decayed_frequency, half_life_days=half_life_days, popularity_share=share, count=count
        )
    return rankers


def user_metrics(
    cases: DataFrame,
    kept: Catalogue,
    rankers: Mapping[str, Ranker],
    cutoffs: Sequence[int],
    users_per_block: int,
    model: ModelInputs | None = None,
    lists: PublishedLists | None = None,
) -> DataFrame:
    """Recall and NDCG at each cut-off for every user and ranking, as USER_METRICS.

    A worker holds one block at a time: users_per_block x kept items scores of the model, and those users' rows.
    """
    if lists is not None:
        listed = _listed(lists.recommendations, kept)
        cases = cases.join(listed, on="user_index", how="left")
    work = _BlockWork(
        rankers=rankers,
        catalogue=kept,
        cutoffs=tuple(cutoffs),
        model_name=model.name if model else None,
        scorer=model.scorer if model else None,
        lists_name=lists.name if lists else None,
    )

    def of_cases(frame: pd.DataFrame) -> pd.DataFrame:
        return work.evaluate(frame, None)

    def of_cases_and_memory(frame: pd.DataFrame, memory: pd.DataFrame) -> pd.DataFrame:
        if frame.empty:  # users with memory, but no next basket
            return pd.DataFrame(columns=USER_METRICS.names)
        return work.evaluate(frame, memory)

    if model is None:
        return _blocks(cases, users_per_block).applyInPandas(of_cases, USER_METRICS)
    states = model.states.select("user_index", _anchor_seconds(), "readouts")
    memory = model.memory.select("user_index", "item_index", _anchor_seconds(), "positive", "negative")
    return (
        _blocks(cases.join(states, on="user_index", how="left"), users_per_block)
        .cogroup(_blocks(memory, users_per_block))
        .applyInPandas(of_cases_and_memory, USER_METRICS)
    )


def _anchor_seconds() -> Column:
    return (F.unix_micros("anchor_time") / F.lit(1e6)).alias("anchor_seconds")


def _blocks(frame: DataFrame, users_per_block: int) -> GroupedData:
    """Rows grouped by blocks of neighbouring user indices.

    The number of partitions is given, since adaptive execution judges by bytes: it would merge these few
    megabytes into one task, though their work is large.
    """
    partitions = int(frame.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    block = F.floor(F.col("user_index") / users_per_block)
    return frame.withColumn("block", block).repartition(partitions, "block").groupBy("block")


def _listed(recommendations: DataFrame, kept: Catalogue) -> DataFrame:
    """Each user's published list as catalogue columns, best first; items that are not kept fall out."""
    entry = F.struct("rank", "column")
    return (
        recommendations.join(protocol.column_map(kept, recommendations), on="item_index", how="inner")
        .groupBy("user_index")
        .agg(F.sort_array(F.collect_list(entry)).alias("entries"))
        .select("user_index", F.col("entries.column").alias(_LISTED))
    )


def _histories(frame: pd.DataFrame) -> list[History]:
    return [
        History(
            columns=np.asarray(columns, dtype=np.int64),
            age_days=(at_seconds - np.asarray(seconds, dtype=np.float64)) / SECONDS_PER_DAY,
        )
        for at_seconds, columns, seconds in zip(
            frame["at_seconds"], frame["history_columns"], frame["history_seconds"], strict=True
        )
    ]


def _padded(lists: pd.Series[Any], count: int) -> Integers:
    """Lists of any length, or null, as (B, count); empty places hold -1."""
    padded = np.full((len(lists), count), -1, dtype=np.int64)
    for row, listed in enumerate(lists):
        if listed is not None:
            padded[row, : min(len(listed), count)] = listed[:count]
    return padded


def _user_metrics(name: str, frame: pd.DataFrame, ranked: Integers, cutoffs: tuple[int, ...]) -> pd.DataFrame:
    found = np.stack([metrics.hits(row, truth) for row, truth in zip(ranked, frame["truth"], strict=True)])
    basket_sizes = frame["truth"].map(len).to_numpy()
    values = {}
    for cutoff in cutoffs:
        values[f"recall@{cutoff}"] = metrics.recall_at(found, basket_sizes, cutoff)
        values[f"ndcg@{cutoff}"] = metrics.ndcg_at(found, basket_sizes, cutoff)
    return pd.concat(
        [
            pd.DataFrame({"user_index": frame["user_index"], "model": name, "metric": metric, "value": value})
            for metric, value in values.items()
        ],
        ignore_index=True,
    )
