"""The users whose interest in a category or an item is above a threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from halflife.answers.night import PublishedNight
from halflife.decay import probability
from halflife.errors import ConfigError, UnknownIdError
from halflife.scoring import pairs

BLOCK_USERS: Final = 4_096


def of_category(night: PublishedNight, category: str, above: float) -> pd.DataFrame:
    """Users by their score in a category, the highest first: user_id, score. Raises UnknownIdError."""
    if category not in night.items.categories:
        raise UnknownIdError(f"category {category!r} is of none of the {len(night.items.ids):,} items; check the name")
    rows = ds.dataset(night.store.path("interest_by_category", night.as_of)).to_table(
        columns=["user_id", "score"], filter=(ds.field("category") == category) & (ds.field("score") > above)
    )
    return _ordered(rows.to_pandas())


def of_item(night: PublishedNight, item_id: str, above: float) -> pd.DataFrame:
    """Users by their score of an item, the highest first: user_id, score. Raises UnknownIdError.

    From the states, not from `scores`: reading one item of that table is reading all of it, and it need not have it.
    """
    place = int(night.items.places([item_id])[0])
    side, item = night.items.side, slice(place, place + 1)
    found = [pd.DataFrame({"user_id": pd.Series(dtype=str), "score": pd.Series(dtype=np.float32)})]
    for ids, first in night.users_in_blocks(BLOCK_USERS):
        states = night.states(first, first + len(ids) - 1)
        at = np.full(len(states.anchor_seconds), night.at_seconds)
        law = (night.half_lives_days, night.horizon_days)
        affinity = pairs.affinity(states, at, *law, side.vectors[item], side.bias[item])[:, 0]
        mine = states.item == place
        affinity[states.user[mine]] += pairs.memory(states, at, *law)[mine].astype(np.float32)
        score = probability(np.maximum(affinity, 0))
        chosen = (score > above) & ids.notna()
        found.append(pd.DataFrame({"user_id": ids[chosen], "score": score[chosen]}))
    return _ordered(pd.concat(found))


def write(users: pd.DataFrame, path: Path) -> None:
    """Write an audience as CSV or Parquet, by the name of the file. Raises ConfigError for any other name."""
    table = pa.Table.from_pandas(users, preserve_index=False)
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--out {path}: a file ends in .csv or .parquet")
    try:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(table, path)
        else:
            pq.write_table(table, path, compression="zstd")
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written: {error.strerror}") from error


def _ordered(users: pd.DataFrame) -> pd.DataFrame:
    return users.sort_values(["score", "user_id"], ascending=[False, True], ignore_index=True)
