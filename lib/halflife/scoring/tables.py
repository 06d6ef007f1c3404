"""The nightly tables, written by the tasks themselves as Arrow columns: every pair's score, and each user's best items.

Each task maps the states of its users, computes their blocks and writes the files. What comes back to the driver is
one row a file, so neither rows nor scores ever pass through the JVM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Row, SparkSession

from halflife import arrow, crash
from halflife.config import ScoreConfig
from halflife.decay import Floats, probability
from halflife.model.artifact import ItemSide
from halflife.scoring import pairs, precision, rollups
from halflife.scoring.files import WRITTEN, RangeFiles
from halflife.scoring.order import Ordered, Reader, States, each
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
# So many pairs of a block are worked on at once: what is made of them on the way to their rows stays in the cache.
PART_PAIRS: Final = 131_072


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
    spark: SparkSession, users: Ordered, night: Night, folders: dict[str, Path], options: ScoreConfig, ranges: int
) -> list[Row]:
    """Write the scores and the recommendations of all users; returns the files, in the columns of `WRITTEN`.

    The users of each of so many ranges of ids are in files of their own, in their order, one row group a block of
    users. A task that is retried, or run twice by speculation, writes files of other names: those that no task has
    returned are the caller's to remove.
    """
    bounds = np.linspace(0, users.users, ranges + 1).astype(np.int64).tolist()

    def score(of_range: int) -> pa.RecordBatch:
        block, reader = Block(night, options), Reader(users, len(night.half_lives_days), night.side.vectors.shape[1])
        with range_files(folders, options) as files:
            for begin in range(bounds[of_range], bounds[of_range + 1], block.users):
                end = min(begin + block.users, bounds[of_range + 1])
                block.write(reader.ids.slice(begin, end - begin), reader.block(begin, end), files)
                crash.worker("scores")
        return files.written()

    for folder in folders.values():
        folder.mkdir()
    return each(spark, ranges, score, WRITTEN)


def range_files(folders: dict[str, Path], options: ScoreConfig) -> RangeFiles:
    """The files of a range of users, encoded as the config says."""
    numbers = ["score", "affinity"] if precision.ENCODINGS[options.encoding].few else []
    dictionary = {**DICTIONARY, "scores": [*DICTIONARY["scores"], *numbers]}
    return RangeFiles(folders, dictionary, STATISTICS)


@dataclass(frozen=True)
class Part:
    """Some users of a block with every item scored."""

    columns: dict[str, NDArray[Any]]  # of `scores`, as they are written
    scores: Matrix  # of these rows, as computed
    left_out: int
    best: Best
    interest: Matrix  # by category, (P, C)


class Block:
    """The rows of one block of users after the other, in the order of users, items in theirs."""

    def __init__(self, night: Night, options: ScoreConfig) -> None:
        self.night = night
        self.options = options
        self.encoding = precision.ENCODINGS[options.encoding]
        self.users = max(1, options.rows_per_group // max(len(night.ids), 1))
        self.part_users = max(1, PART_PAIRS // max(len(night.ids), 1))

    def write(self, ids: pa.Array, stated: States, files: RangeFiles) -> None:
        """Score one block of users, by their ids, against every item and write its rows."""
        night, options, found = self.night, self.options, stated.pairs
        users = Users(stated.readouts, stated.anchor_seconds, stated.user, night.position[found["item_index"]])
        at = np.full(len(ids), night.at_seconds)
        law, side = (night.half_lives_days, night.horizon_days), night.side
        affinity = pairs.affinity(users, at, *law, side.vectors, side.bias)
        begins = range(0, len(ids), self.part_users)
        parts = [self._part(users, found["strength"], affinity, begin) for begin in begins]
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        rows = self._arrays(ids, columns) if options.layout == "arrays" else self._rows(ids, columns)
        scores = np.concatenate([part.scores for part in parts])
        files.write("scores", rows, scores, sum(part.left_out for part in parts))
        by_category = night.categories.interest(ids, np.concatenate([part.interest for part in parts]))
        totals = rollups.totals(by_category, len(ids), options.interested_above)
        files.write("interest_by_category", by_category, by_category["score"].to_numpy(), totals=totals)
        best = Best.joined([part.best for part in parts])
        why, score = reasons(best, users, found, night.event_types), probability(best.strength)
        files.write("recommendations", _best_rows(ids, night.ids, best, score, why), score)

    def _part(self, users: Users, remembered: Floats, affinity: Matrix, first: int) -> Part:
        """Score the part of a block from the user `first` on, of the affinity (B, I) and the memory (M,) of all."""
        night, options = self.night, self.options
        affinity = affinity[first : first + self.part_users]
        states, of_part = users.part(first, first + len(affinity))
        strength = remembered[of_part]
        expected = pairs.add_memory(affinity.copy(), states, strength)
        score = probability(expected)
        seen = states if options.exclude_seen else None
        best = best_items(expected, options.top_n, night.categories.category, options.max_per_category, seen)
        columns, scores, left_out = {"score": self.encoding.score(expected, score)}, score.ravel(), 0
        if options.layout == "arrays":
            columns["score"] = columns["score"][:, night.position]
        else:
            memory = np.zeros_like(affinity)
            memory[states.user, states.item] = strength
            columns |= {"affinity": self.encoding.affinity(affinity), "memory": memory}
            columns = {name: values.ravel() for name, values in columns.items()}
            if options.output != "all" or options.floor:
                places, left_out = self._places(score, states, best)
                columns = {name: values[places] for name, values in columns.items()}
                user, item = np.divmod(places.astype(np.int32), np.int32(len(night.ids)))
                columns |= {"user": user + np.int32(first), "item": item}
                scores = scores[places]
        return Part(columns, scores, left_out, best.behind(first), night.categories.strength(expected))

    def _places(self, score: Matrix, states: Users, best: Best) -> tuple[NDArray[np.int64], int]:
        """Places of the pairs that are written among all of a part, and how many the floor leaves out."""
        asked = np.full(score.shape, self.options.output == "all")
        if self.options.output == "observed":
            asked[states.user, states.item] = True
        elif self.options.output == "top_n":
            asked[best.user, best.item] = True
        places = np.flatnonzero(asked & (score >= np.float32(self.options.floor)))
        return places, int(asked.sum()) - len(places)

    def _rows(self, users: pa.Array, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
        """Pairs in the columns of `schemas.SCORES`; without places they are all pairs."""
        if "user" in columns:
            user, item = pa.array(columns["user"]), pa.array(columns["item"])
        else:
            user, item = (codes.slice(0, len(columns["score"])) for codes in self._codes)
        numbers = {name: pa.array(columns[name]) for name in ("score", "affinity", "memory")}
        return _table(
            {"user_id": _named(user, users), "item_id": _named(item, self.night.ids), **numbers}, self._metadata
        )

    @cached_property
    def _codes(self) -> tuple[pa.Array, pa.Array]:
        """Place of the user and the item of each pair of a whole block: the same in all."""
        items = len(self.night.ids)
        users = np.repeat(np.arange(self.users, dtype=np.int32), items)
        return pa.array(users), pa.array(np.tile(np.arange(items, dtype=np.int32), self.users))

    def _arrays(self, users: pa.Array, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
        """Users in the columns of `schemas.SCORE_ARRAYS`: the entry of an item is at its item_index."""
        return _table({"user_id": users, "score": arrow.lists(columns["score"])}, self._metadata)

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
            "score": pa.array(score),
            "reason": why,
        }
    )


def _named(codes: pa.Array, ids: pa.Array) -> pa.Array:
    """Ids by their places, which are not looked at once more: that is a pass over all pairs."""
    return pa.DictionaryArray.from_arrays(codes, ids, safe=False)


def _table(columns: dict[str, pa.Array], metadata: dict[str, str] | None = None) -> pa.Table:
    """Columns that are never null: Parquet then keeps no levels, which cost more than the ids."""
    fields = [pa.field(name, column.type, nullable=False) for name, column in columns.items()]
    return pa.Table.from_arrays([*columns.values()], schema=pa.schema(fields, metadata))
