"""What the encoder looked at: how much each of a user's last events counts in the affinity of each channel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from halflife.answers.night import PublishedNight


def attention(night: PublishedNight, user_id: str) -> pd.DataFrame:
    """A user's last events, the newest first: time, item_id, title and a column of weights for each channel.

    The columns of weights are numbered 0..K-1; each sums to 1. No rows for a user without events, and where the night
    was scored by the exponential law, which reads no sequence.
    """
    of_user = ds.field("user_index") == night.user(user_id)
    row = ds.dataset(night.store.path("sequences", night.as_of)).to_table(filter=of_user)
    lists = [field.name for field in row.schema if pa.types.is_list(field.type)]
    columns = {name: np.array(row[name].to_pylist()) for name in lists}
    if night.model.kind == "exponential" or not len(row):
        return pd.DataFrame(columns=["time", "item_id", "title"])
    length = row["length"][0].as_py()
    weights = night.model.attention({**columns, "length": row["length"].to_numpy()})[0, :length]
    places = night.items.place[columns["item_index"][0, :length]]
    found = pd.DataFrame(weights)
    found.insert(0, "time", pd.to_datetime(columns["event_seconds"][0, :length], unit="s", utc=True))
    found.insert(1, "item_id", night.items.ids[places])
    found.insert(2, "title", [night.items.titles[place] for place in places])
    return found.iloc[::-1].reset_index(drop=True)
