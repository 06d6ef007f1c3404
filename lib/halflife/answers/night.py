"""One published night as arrays: its ids, its model, and the states of users, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from halflife import arrow
from halflife.answers.rows import UserRows
from halflife.config import ScoreConfig
from halflife.decay import Floats
from halflife.errors import ConfigError, InputMissingError, ModelError, UnknownIdError
from halflife.model import artifact
from halflife.model.artifact import ItemSide, Model
from halflife.nights import instant
from halflife.scoring.pairs import States
from halflife.warehouse import Warehouse

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Items:
    """The items in the order of their ids, as in the table `scores`; `index` is the item index of each place, (I,)."""

    ids: pd.Index[str]
    index: Places
    titles: Sequence[str | None]
    categories: Sequence[str | None]
    side: ItemSide

    @cached_property
    def place(self) -> Places:
        """The place of each item index, (I,)."""
        return np.argsort(self.index)

    def places(self, item_ids: Sequence[str]) -> Places:
        """Place of each id. Raises UnknownIdError that names the first unknown one."""
        places: Places = self.ids.get_indexer(pd.Index(item_ids, dtype=object))
        if (places < 0).any():
            unknown = item_ids[int(np.argmin(places))]
            raise UnknownIdError(f"item {unknown!r} is none of the {len(self.ids):,} items of the night; check the id")
        return places


class PublishedNight:
    """A night that the score job has published, the last one where none is named.

    What it reads stays readable when the night is published again, until `halflife gc` removes what was replaced.
    Raises InputMissingError where there is no such night, and ModelError where its model is not published any more.
    """

    def __init__(self, store: Warehouse, as_of: date | None = None) -> None:
        nights = store.nights("score")
        if as_of is None and not nights:
            raise InputMissingError(f"no night is published under {store.root}; run jobs/score.py first")
        self.store = store
        self.as_of = as_of or nights[-1]
        folder = store.path("user_states", self.as_of)
        manifest = store.manifest("score", self.as_of)
        assert manifest is not None  # its folder is there
        self.manifest = manifest
        self.model = _model(store, self.as_of, manifest)
        self.half_lives_days: Floats = self.model.half_lives_days
        self.horizon_days = self.model.horizon_days
        self.at_seconds = instant(self.as_of).timestamp()
        size = manifest["config"].get("score", {}).get("users_per_file")
        self._states = UserRows(folder, ["anchor_time", "readouts"], size)
        self._memory = UserRows(folder.parent / "memory", ["item_index", "anchor_time", "positive", "negative"], size)

    @property
    def written_as(self) -> ScoreConfig:
        """How the night's scores were written."""
        given = self.manifest["config"].get("score", {})
        return ScoreConfig.model_validate({name: given[name] for name in ScoreConfig.model_fields if name in given})

    @cached_property
    def _users(self) -> tuple[pd.Index[str], NDArray[np.int32]]:
        """Ids of the users, but for those who were forgotten, and the index of each."""
        users = pq.read_table(self.store.path("users", self.as_of))
        known = users.filter(pc.is_valid(users["user_id"]))
        return pd.Index(known["user_id"].to_pandas()), known["user_index"].to_numpy()

    @cached_property
    def items(self) -> Items:
        """The night's items with their side of the model."""
        folder = self.store.path("items", self.as_of)
        columns = ["item_index", "item_id", "title", "category"]
        ordered = ds.dataset(folder).to_table(columns=columns).sort_by("item_id").to_pandas()
        index = ordered["item_index"].to_numpy()
        new = ds.dataset(folder).to_table(filter=ds.field("item_index") >= self.model.items).to_pandas()
        side = self.model.item_side(len(index), new)
        return Items(
            ids=pd.Index(ordered["item_id"]),
            index=index,
            titles=ordered["title"].tolist(),
            categories=ordered["category"].tolist(),
            side=ItemSide(side.bias[index], side.vectors[index]),
        )

    def user(self, user_id: str) -> int:
        """Index of a user. Raises UnknownIdError."""
        ids, indexes = self._users
        place = ids.get_indexer(pd.Index([user_id], dtype=object))[0]
        if place < 0:  # said without the id: whoever logs the message must not log whom it is about
            raise UnknownIdError(
                f"the user is none of the {len(ids):,} users of {self.as_of}; check the id, or whether it was forgotten"
            )
        return int(indexes[place])

    def users_in_blocks(self, size: int) -> Iterator[tuple[pd.Series[str], int]]:
        """All users in blocks of indexes: their ids, null for those who were forgotten, and the first index."""
        ids, indexes = self._users
        everyone = pd.Series(ids, index=indexes).reindex(range(int(indexes.max(initial=-1)) + 1))
        for first in range(0, len(everyone), size):
            yield everyone.iloc[first : first + size], first

    def states(self, first: int, last: int) -> States:
        """The states of the users from index `first` to `last`: a block of users, items by their place."""
        found, pairs = self._states.read(first, last), self._memory.read(first, last)
        count, channels = last - first + 1, len(self.half_lives_days)
        rows = found["user_index"].to_numpy() - first
        readouts = np.zeros((count, channels, self.items.side.vectors.shape[1]), dtype=np.float32)
        readouts[rows] = _flat(found["readouts"], np.float32).reshape(len(rows), *readouts.shape[1:])
        anchors = np.full(count, -np.inf)  # without events the affinity has faded to popularity
        anchors[rows] = arrow.seconds(found["anchor_time"])
        return States(
            readouts=readouts,
            anchor_seconds=anchors,
            user=(pairs["user_index"].to_numpy() - first).astype(np.int32),
            item=self.items.place[pairs["item_index"].to_numpy()].astype(np.int32),
            pair_seconds=arrow.seconds(pairs["anchor_time"]),
            positive=_flat(pairs["positive"], np.float64).reshape(-1, channels),
            negative=_flat(pairs["negative"], np.float64).reshape(-1, channels),
        )

    def seconds(self, at: datetime | date | None) -> float:
        """An instant as seconds: a day is its first instant, a time without a zone is UTC, None is the night.

        Raises ConfigError where it lies before the night: the states know what happened later.
        """
        if at is None:
            return self.at_seconds
        moment = at if isinstance(at, datetime) else instant(at)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if seconds < self.at_seconds:
            raise ConfigError(f"{at} lies before the night {self.as_of}; name an earlier night")
        return seconds


def _model(store: Warehouse, as_of: date, manifest: Mapping[str, Any]) -> Model:
    """The model by which a night was scored."""
    figures = manifest["metrics"]
    for trained in reversed([night for night in store.nights("train") if night <= as_of]):
        published = store.manifest("train", trained)
        if published is not None and published["metrics"]["version"] == figures["model"]:
            return artifact.load(store.path("models", trained))
    if figures["model_kind"] == "exponential":  # the law of a night without a trained model is in its manifest
        return artifact.law(figures["half_lives_days"][0], figures["horizon_days"], figures["model"])
    raise ModelError(
        f"night {as_of} was scored by model {figures['model']}, which is not published any more; "
        f"run jobs/score.py --as-of {as_of} again"
    )


def _flat(lists: pa.ChunkedArray, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    flat: NDArray[Any] = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return flat
