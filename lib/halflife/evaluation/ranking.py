"""Rankings scored block by block of users: baselines, a model and published lists on the same cases.

Spark brings the rows of a block of users together, NumPy does the block's work, and one row per user, task, model and
segment comes out; nothing that grows with users is collected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, GroupedData
from pyspark.sql import functions as F
from pyspark.sql import types as T

from halflife.config import EvaluateConfig
from halflife.evaluation import metrics, protocol, segments
from halflife.evaluation.baselines import Block, History, Integers, Ranker
from halflife.evaluation.contest import Fitted, histories_of
from halflife.evaluation.protocol import Catalogue
from halflife.topn import top_columns

# What is predicted: the next basket, or all of the horizon.
NEXT: Final = "next"
HORIZON: Final = "horizon"

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


RANKING: Final = ("recall", "precision", "ndcg", "hit_rate", "mrr", "map")


def metric_names(cutoffs: Sequence[int]) -> list[str]:
    """The metrics of one ranking, in the order of their columns."""
    return [f"{metric}@{cutoff}" for cutoff in cutoffs for metric in RANKING]


def popularity_name(cutoff: int) -> str:
    """The column of the mean popularity, as a share of the highest, of the first `cutoff` places."""
    return f"popularity@{cutoff}"


# The same of the truth.
TRUE_POPULARITY: Final = "true_popularity"


def value_names(cutoffs: Sequence[int]) -> list[str]:
    """All columns of USER_METRICS that hold a value."""
    return [*metric_names(cutoffs), *(popularity_name(cutoff) for cutoff in cutoffs), TRUE_POPULARITY]


def user_metrics_schema(cutoffs: Sequence[int]) -> T.StructType:
    """One row is one user's values under one model, for one task and one of the user's segments.

    `listed` is the ranking itself, in the segment `all` only.
    """
    return T.StructType(
        [
            T.StructField("user_index", T.IntegerType(), False),
            T.StructField("task", T.StringType(), False),
            T.StructField("model", T.StringType(), False),
            T.StructField("segment", T.StringType(), False),
            T.StructField("listed", T.ArrayType(T.IntegerType(), False), True),
            *(T.StructField(name, T.DoubleType(), False) for name in value_names(cutoffs)),
        ]
    )


@dataclass(frozen=True)
class _Task:
    """The cases of one task in a block: their rows of it (C,), when to predict for (C,), and the truth as bits of event
    types (C, n), 0 where an item is not in it."""

    name: str
    rows: Integers
    at_seconds: NDArray[np.float64]
    types: NDArray[np.int32]


class _Judged(NamedTuple):
    """Some cases under one model in one segment: rows of the block (C,), values (C, values), and rankings (C, k)."""

    rows: Integers
    task: str
    model: str
    segment: str
    values: NDArray[np.float64]
    ranked: Integers


@dataclass(frozen=True)
class _BlockWork:
    """All that a worker needs to evaluate a block, broadcast with the function."""

    rankers: Mapping[str, Ranker]
    fitted_columns: tuple[str, ...]
    catalogue: Catalogue
    cutoffs: tuple[int, ...]
    event_types: tuple[str, ...]
    cut_seconds: float
    model_name: str | None
    scorer: BlockScorer | None
    lists_name: str | None

    def evaluate(self, frame: pd.DataFrame, memory: pd.DataFrame | None) -> pd.DataFrame:
        """USER_METRICS of one block of cases."""
        histories = histories_of(frame, self.cut_seconds)
        ranked = self._ranked(frame, histories)
        judged: list[_Judged] = []
        for task in self._tasks(frame):
            shown = {name: columns[task.rows] for name, columns in ranked.items()}
            if self.scorer is not None and self.model_name is not None and memory is not None:
                scores = self._scores(frame.iloc[task.rows], task.at_seconds, memory)
                shown[self.model_name] = top_columns(scores, max(self.cutoffs))
            judged += self._judged(task, [histories[row] for row in task.rows], shown)
        return self._framed(judged, frame["user_index"].to_numpy())

    def _ranked(self, frame: pd.DataFrame, histories: list[History]) -> dict[str, Integers]:
        """What does not depend on when it is asked for: the baselines, whose order time does not change, and lists."""
        fitted = {name: frame[name].tolist() for name in self.fitted_columns}
        block = Block(frame["user_index"].to_numpy(dtype=np.int64), histories, fitted)
        ranked = {name: rank(block) for name, rank in self.rankers.items()}
        if self.lists_name is not None:
            ranked[self.lists_name] = _padded(frame[_LISTED], max(self.cutoffs))
        return ranked

    def _tasks(self, frame: pd.DataFrame) -> Iterator[_Task]:
        at_seconds = {
            NEXT: frame["at_seconds"].to_numpy(dtype=np.float64),
            HORIZON: np.full(len(frame), self.cut_seconds),
        }
        for name, instants in at_seconds.items():
            rows = np.flatnonzero(frame[f"{name}_columns"].notna())
            types = np.zeros((rows.size, self.catalogue.item_indices.size), dtype=np.int32)
            truths = frame.iloc[rows][[f"{name}_columns", f"{name}_types"]]
            for case, (columns, bits) in enumerate(truths.itertuples(index=False)):
                types[case, columns] = bits
            if rows.size:
                yield _Task(name, rows, instants[rows], types)

    def _scores(
        self, frame: pd.DataFrame, at_seconds: NDArray[np.float64], memory: pd.DataFrame
    ) -> NDArray[np.floating[Any]]:
        assert self.scorer is not None
        users = frame["user_index"].to_numpy(dtype=np.int64)
        states = frame[["user_index", "anchor_seconds", "readouts"]]
        return self.scorer(users, at_seconds, self.catalogue.item_indices, states, memory)

    def _judged(self, task: _Task, histories: list[History], shown: Mapping[str, Integers]) -> Iterator[_Judged]:
        of_user = [segments.of_user(history) for history in histories]
        bought = np.zeros(task.types.shape, dtype=np.bool_)
        for case, history in enumerate(histories):
            bought[case, history.columns] = True
        old = np.array([segments.NEW_USER not in names for names in of_user])
        everything = task.types > 0
        for name, values in self._values(everything, shown):
            for segment in sorted({segment for names in of_user for segment in names}):
                cases = np.flatnonzero([segment in names for names in of_user])
                yield _Judged(task.rows[cases], task.name, name, segment, values[cases], shown[name][cases])
        for segment, relevant in segments.of_items(task.types, bought, self.event_types):
            cases = np.flatnonzero(old & relevant.any(axis=1))
            some = {name: ranked[cases] for name, ranked in shown.items()}
            for name, values in self._values(relevant[cases], some):
                yield _Judged(task.rows[cases], task.name, name, segment, values, some[name])

    def _values(
        self, relevant: NDArray[np.bool_], shown: Mapping[str, Integers]
    ) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """For each ranking the columns of `value_names` of each case: (C, values), from its `relevant` items (C, n)."""
        share = self.catalogue.popularity_share
        sizes = relevant.sum(axis=1)
        of_truth = relevant @ share / sizes
        for name, ranked in shown.items():
            found = metrics.hits(ranked, relevant)
            values = []
            for cutoff in self.cutoffs:
                values += [
                    metrics.recall_at(found, sizes, cutoff),
                    metrics.precision_at(found, cutoff),
                    metrics.ndcg_at(found, sizes, cutoff),
                    metrics.hit_rate_at(found, cutoff),
                    metrics.mrr_at(found, cutoff),
                    metrics.average_precision_at(found, sizes, cutoff),
                ]
            of_places = np.where(ranked >= 0, share[np.maximum(ranked, 0)], 0.0)
            for cutoff in self.cutoffs:
                places = (ranked[:, :cutoff] >= 0).sum(axis=1)
                values.append(of_places[:, :cutoff].sum(axis=1) / np.maximum(places, 1))
            yield name, np.stack([*values, of_truth], axis=1)

    def _framed(self, judged: Sequence[_Judged], users: NDArray[Any]) -> pd.DataFrame:
        lengths = [each.rows.size for each in judged]
        keys = {
            name: np.repeat(np.array([getattr(each, name) for each in judged], dtype=object), lengths)
            for name in ("task", "model", "segment")
        }
        listed = [row[row >= 0] if each.segment == segments.ALL else None for each in judged for row in each.ranked]
        values = np.concatenate([each.values for each in judged])
        return pd.DataFrame(
            {
                "user_index": users[np.concatenate([each.rows for each in judged])],
                **keys,
                "listed": listed,
                **dict(zip(value_names(self.cutoffs), values.T, strict=True)),
            }
        )


def user_metrics(
    cases: DataFrame,
    kept: Catalogue,
    fitted: Fitted,
    cut_seconds: float,
    options: EvaluateConfig,
    model: ModelInputs | None = None,
    lists: PublishedLists | None = None,
) -> DataFrame:
    """Each user's metrics under every ranking, as USER_METRICS.

    A worker holds one block at a time: users_per_block x kept items scores of the model, and those users' rows.
    """
    if lists is not None:
        cases = cases.join(_listed(lists.recommendations, kept), on="user_index", how="left")
    if fitted.users is not None:
        cases = cases.join(fitted.users, on="user_index", how="left")
    schema = user_metrics_schema(options.cutoffs)
    work = _BlockWork(
        rankers=fitted.rankers,
        fitted_columns=fitted.columns,
        catalogue=kept,
        cutoffs=options.cutoffs,
        event_types=options.event_types,
        cut_seconds=cut_seconds,
        model_name=model.name if model else None,
        scorer=model.scorer if model else None,
        lists_name=lists.name if lists else None,
    )

    def of_cases(frame: pd.DataFrame) -> pd.DataFrame:
        return work.evaluate(frame, None)

    def of_cases_and_memory(frame: pd.DataFrame, memory: pd.DataFrame) -> pd.DataFrame:
        if frame.empty:  # users with memory, but no next basket
            return pd.DataFrame(columns=schema.names)
        return work.evaluate(frame, memory)

    if model is None:
        return _blocks(cases, options.users_per_block).applyInPandas(of_cases, schema)
    states = model.states.select("user_index", _anchor_seconds(), "readouts")
    memory = model.memory.select("user_index", "item_index", _anchor_seconds(), "positive", "negative")
    return (
        _blocks(cases.join(states, on="user_index", how="left"), options.users_per_block)
        .cogroup(_blocks(memory, options.users_per_block))
        .applyInPandas(of_cases_and_memory, schema)
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
        protocol.in_columns(recommendations, kept)
        .groupBy("user_index")
        .agg(F.sort_array(F.collect_list(entry)).alias("entries"))
        .select("user_index", F.col("entries.column").alias(_LISTED))
    )


def _padded(lists: pd.Series[Any], count: int) -> Integers:
    """Lists of any length, or null, as (B, count); empty places hold -1."""
    padded = np.full((len(lists), count), -1, dtype=np.int64)
    for row, listed in enumerate(lists):
        if listed is not None:
            padded[row, : min(len(listed), count)] = listed[:count]
    return padded
