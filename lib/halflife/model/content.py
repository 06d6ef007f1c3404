"""What is known of items before anybody touches them: category, features as text, vectors computed elsewhere."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halflife.errors import ModelError


@dataclass(frozen=True)
class ItemContent:
    """Content of n items as the network reads it.

    category (n,) and buckets (n, F), one of each feature, are numbers from 1 on, 0 where there is none. vectors (n, V)
    stand side by side, each of length 1, or zeros where there is none.
    """

    category: NDArray[np.int32]
    buckets: NDArray[np.int32]
    vectors: NDArray[np.float32]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Of which items there is any, (n,)."""
        return np.asarray((self.category > 0) | (self.buckets > 0).any(axis=1) | self.vectors.any(axis=1))

    @staticmethod
    def of_categories(category: NDArray[np.int32]) -> ItemContent:
        """Items of which no more is known than their category, (n,)."""
        return ItemContent(category, np.zeros((len(category), 0), np.int32), np.zeros((len(category), 0), np.float32))

    def with_cold(self) -> ItemContent:
        """One more row without content: items that are not known in training."""
        return ItemContent(*(np.pad(a, [(0, 1), *[(0, 0)] * (a.ndim - 1)]) for a in vars(self).values()))


def category_names(items: pd.DataFrame) -> tuple[str, ...]:
    """The categories of a catalogue in the order in which they are numbered from 1 on."""
    return tuple(sorted(set(items["category"].dropna())))


def feature_names(items: pd.DataFrame) -> tuple[str, ...]:
    """The features that any of the items has."""
    return tuple(sorted({name for entries in _entries(items, "features") for name in entries}))


def vector_sizes(items: pd.DataFrame) -> dict[str, int]:
    """The vectors that any of the items has, and how many numbers one holds. Raises ModelError where that differs."""
    sizes: dict[str, int] = {}
    for entries in _entries(items, "vectors"):
        for name, vector in entries.items():
            if sizes.setdefault(name, len(vector)) != len(vector):
                raise ModelError(
                    f"items: vectors {name!r} of {sizes[name]} and of {len(vector)} numbers; make them equal"
                )
    return dict(sorted(sizes.items()))


def content_of(
    items: pd.DataFrame,
    categories: Sequence[str],
    features: Sequence[str],
    feature_buckets: int,
    vectors: Mapping[str, int],
) -> ItemContent:
    """The content of `items` (columns of the items table) by the names of a model; what it does not know is left out.

    A value of a feature is hashed into one of `feature_buckets`, so that values which training has not seen have a
    place as well. (Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.)
    """
    number = {name: place for place, name in enumerate(categories, start=1)}
    category = [number.get(name, 0) for name in items["category"]]
    buckets = np.zeros((len(items), len(features)), dtype=np.int32)
    if features:
        for row, entries in enumerate(_entries(items, "features")):
            buckets[row] = [_bucket(name, entries.get(name), feature_buckets) for name in features]
    known = [np.zeros((len(items), size), dtype=np.float32) for size in vectors.values()]
    if vectors:
        for row, entries in enumerate(_entries(items, "vectors")):
            for name, matrix in zip(vectors, known, strict=True):
                if name in entries:
                    matrix[row] = _unit(name, entries[name], vectors[name])
    side_by_side = np.concatenate(known, axis=1) if known else np.zeros((len(items), 0), dtype=np.float32)
    return ItemContent(np.asarray(category, dtype=np.int32), buckets, side_by_side)


def _entries(items: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """A column of maps as dictionaries: pyarrow gives lists of pairs, a struct names what is missing."""
    if column not in items:
        return [{}] * len(items)
    maps = [dict(value) if isinstance(value, list | dict | np.ndarray) else {} for value in items[column]]
    return [{name: entry for name, entry in entries.items() if entry is not None} for entries in maps]


def _bucket(name: str, value: str | None, buckets: int) -> int:
    return 0 if value is None else 1 + zlib.crc32(f"{name}={value}".encode("utf-8", "surrogatepass")) % buckets


def _unit(name: str, vector: Sequence[float], size: int) -> NDArray[np.float32]:
    array = np.asarray(vector, dtype=np.float32)
    if array.shape != (size,):
        raise ModelError(
            f"items: vectors {name!r} of {len(array)} numbers, the model was trained on {size}; train again"
        )
    unit: NDArray[np.float32] = array / max(float(np.linalg.norm(array)), 1e-12)
    return unit
