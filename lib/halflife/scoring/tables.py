"""The nightly tables, written by the tasks themselves as Arrow columns: every pair's score, and each user's best items.

Each task maps the states of its users, computes their blocks and writes the files. What comes back to the driver is
one row a file, so neither rows nor scores ever pass through the JVM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Row, SparkSession

from halflife import arrow, crash
from halflife.config import ScoreConfig
from halflife.decay import Floats, probability
from halflife.model.artifact import ItemSide
from halflife.scoring import pairs, precision, rollups
from halflife.scoring.files import WRITTEN, TaskFiles
from halflife.scoring.order import Ordered, Reader, States
from halflife.scoring.pairs import Indexes, Matrix, Users
from halflife.scoring.recommend import Best, best_items, reasons
from halflife.scoring.rollups import Categories

# Columns of few values, and those by which a reader finds rows. Each row group has all items: the least and the
# greatest of their ids are of no use to anyone, and looking for them takes pyarrow longer than writing the scores.
DICTIONARY = {
    "scores": ["user_id", "item_id"],
    "recommendations": ["user_id", "item_id", "reason"],
    "interest_by_category": ["user_id", "category"],
}
STATISTICS = {
    "scores": ["user_id", "score"],
    "recommendations": ["user_id", "rank", "score"],
    "interest_by_category": ["user_id", "score"],
}


@dataclass(frozen=True)
class Night:
    """What every block of users needs to know of the night: small enough to travel with the tasks.

    The items stand in the order in which a user's rows are written: `ids` (I,), their `categories`, and their side of
    the model.
    """

    at_seconds: float
    half_lives_days: Floats
    horizon_days: float
    event_types: tuple[str, ...]
    ids: pa.Array
    categories: Categories
    position: Indexes  # row of an item index in that order
    side: ItemSide


def in_item_order(items: pd.DataFrame, side: ItemSide) -> tuple[pa.Array, Categories, Indexes, ItemSide]:
    """Ids in their order with their categories, the place of each item index among them, and the model's side.

    `items` has the columns item_index, item_id, category and category_index.
    """
    ordered = items.sort_values("item_id", kind="stable")
    index = ordered["item_index"].to_numpy()
    position = np.empty(len(index), dtype=np.int32)
    position[index] = np.arange(len(index), dtype=np.int32)
    category = ordered["category_index"].fillna(-1).to_numpy(dtype=np.int32)
    names = dict(zip(category.tolist(), ordered["category"], strict=True))
    categories = Categories([names.get(place, "") for place in range(max(names, default=-1) + 1)], category)
    sides = ItemSide(side.bias[index], side.vectors[index])
    return pa.array(ordered["item_id"], pa.string()), categories, position, sides


def write(
    spark: SparkSession, users: Ordered, night: Night, folders: dict[str, Path], options: ScoreConfig, tasks: int
) -> list[Row]:
    """Write the scores and the recommendations of all users; returns the files, in the columns of `WRITTEN`.

    Each task writes the users of one range of ids, in their order, one row group a block of users. A task that is
    retried, or run twice by speculation, writes files of other names: those that no task has returned are the caller's
    to remove.
    """
    bounds = np.linspace(0, users.users, tasks + 1).astype(np.int64).tolist()

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        block, reader = Block(night, options), Reader(users, len(night.half_lives_days), night.side.vectors.shape[1])
        with task_files(folders, options) as files:
            for batch in batches:
                for task in batch.column("id").to_pylist():
                    for begin in range(bounds[task], bounds[task + 1], block.users):
                        end = min(begin + block.users, bounds[task + 1])
                        block.write(reader.ids.slice(begin, end - begin), reader.block(begin, end), files)
                        crash.worker("scores")
        yield from files.written()

    for folder in folders.values():
        folder.mkdir()
    return spark.range(0, tasks, 1, tasks).mapInArrow(score, WRITTEN).collect()


def task_files(folders: dict[str, Path], options: ScoreConfig) -> TaskFiles:
    """The files of a task, encoded as the config says."""
    numbers = ["score", "affinity"] if precision.ENCODINGS[options.encoding].few else []
    dictionary = {**DICTIONARY, "scores": [*DICTIONARY["scores"], *numbers]}
    return TaskFiles(folders, dictionary, STATISTICS)


class Block:
    """The rows of one block of users after the other, in the order of users, items in theirs."""

    def __init__(self, night: Night, options: ScoreConfig) -> None:
        self.night = night
        self.options = options
        self.encoding = precision.ENCODINGS[options.encoding]
        self.users = max(1, options.rows_per_group // max(len(night.ids), 1))

    def write(self, ids: pa.Array, stated: States, files: TaskFiles) -> None:
        """Score one block of users, by their ids, against every item and write its rows."""
        night, options, found = self.night, self.options, stated.pairs
        item = night.position[found["item_index"]]
        states = Users(stated.readouts, stated.anchor_seconds, stated.user, item)
        at = np.full(len(ids), night.at_seconds)
        affinity = pairs.affinity(
            states, at, night.half_lives_days, night.horizon_days, night.side.vectors, night.side.bias
        )
        expected = pairs.add_memory(affinity.copy(), states, found["strength"])
        score = probability(expected)
        seen = states if options.exclude_seen else None
        best = best_items(expected, options.top_n, night.categories.category, options.max_per_category, seen)
        if options.layout == "arrays":
            files.write("scores", self._arrays(ids, expected, score), score)
        else:
            memory = np.zeros_like(affinity)
            memory[states.user, states.item] = found["strength"]
            places, left_out = self._places(score, states, best)
            picked = [values if places is None else values[places] for values in (expected, score, affinity, memory)]
            files.write("scores", self._rows(ids, places, *picked), picked[1], left_out)
        why = reasons(best, states, found, expected, night.event_types)
        by_category = night.categories.interest(ids, expected)
        totals = rollups.totals(by_category, len(ids), options.interested_above)
        files.write("interest_by_category", by_category, by_category["score"].to_numpy(), totals=totals)
        files.write("recommendations", _best_rows(ids, night.ids, best, score, why), score[best.user, best.item])

    def _places(self, score: Matrix, states: Users, best: Best) -> tuple[tuple[Indexes, Indexes] | None, int]:
        """User and item of the pairs that are written, None for all, and how many the floor leaves out."""
        if self.options.output == "all" and not self.options.floor:
            return None, 0
        asked = np.full(score.shape, self.options.output == "all")
        if self.options.output == "observed":
            asked[states.user, states.item] = True
        elif self.options.output == "top_n":
            asked[best.user, best.item] = True
        kept = asked & (score >= np.float32(self.options.floor))
        user, item = np.nonzero(kept)
        return (user.astype(np.int32), item.astype(np.int32)), int(asked.sum()) - len(user)

    def _rows(
        self,
        users: pa.Array,
        places: tuple[Indexes, Indexes] | None,
        expected: Matrix,
        score: Matrix,
        affinity: Matrix,
        memory: Matrix,
    ) -> pa.Table:
        """Pairs in the columns of `schemas.SCORES`."""
        if places is None:
            rows = len(users) * len(self.night.ids)
            user_codes, item_codes = (codes.slice(0, rows) for codes in self._codes)
        else:
            user_codes, item_codes = map(pa.array, places)
        return _table(
            {
                "user_id": pa.DictionaryArray.from_arrays(user_codes, users),
                "item_id": pa.DictionaryArray.from_arrays(item_codes, self.night.ids),
                "score": pa.array(self.encoding.score(expected, score).ravel()),
                "affinity": pa.array(self.encoding.affinity(affinity).ravel()),
                "memory": pa.array(memory.ravel()),
            },
            self._metadata,
        )

    @cached_property
    def _codes(self) -> tuple[pa.Array, pa.Array]:
        """Place of the user and the item of each pair of a whole block: the same in all."""
        items = len(self.night.ids)
        users = np.repeat(np.arange(self.users, dtype=np.int32), items)
        return pa.array(users), pa.array(np.tile(np.arange(items, dtype=np.int32), self.users))

    def _arrays(self, users: pa.Array, expected: Matrix, score: Matrix) -> pa.Table:
        """Users in the columns of `schemas.SCORE_ARRAYS`: the entry of an item is at its item_index."""
        values = self.encoding.score(expected, score)[:, self.night.position]
        return _table({"user_id": users, "score": arrow.lists(values)}, self._metadata)

    @property
    def _metadata(self) -> dict[str, str] | None:
        """How to read the numbers, where they are not the values themselves."""
        return {"halflife.encoding": self.encoding.formula} if self.encoding.formula else None


def _best_rows(users: pa.Array, items: pa.Array, best: Best, score: Matrix, why: pa.Array) -> pa.Table:
    """Each user's best items in the columns of `schemas.RECOMMENDATIONS`."""
    return _table(
        {
            "user_id": users.take(pa.array(best.user)),
            "rank": pa.array(best.rank.astype(np.int32) + np.int32(1)),
            "item_id": items.take(pa.array(best.item)),
            "score": pa.array(score[best.user, best.item]),
            "reason": why,
        }
    )


def _table(columns: dict[str, pa.Array], metadata: dict[str, str] | None = None) -> pa.Table:
    """Columns that are never null: Parquet then keeps no levels, which cost more than the ids."""
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.Table.from_arrays([*columns.values()], schema=pa.schema(fields, metadata))
