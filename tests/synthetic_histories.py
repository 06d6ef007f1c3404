"""A synthetic log as training reads it: the histories of its users, and a table of them."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import pandas as pd

from halflife.synthetic import SyntheticLog
from halflife.training.examples import History
from training_log import columns_of


def histories_of(log: SyntheticLog) -> list[History]:
    """The history of each user with events, by the user's place in the log's own table."""
    item = pd.Index(log.items["item_id"]).get_indexer(log.events["item_id"])
    kind = pd.Index(log.event_types["name"]).get_indexer(log.events["event_type"]).astype(np.int32)
    strength = log.domain.strengths(kind, log.events["dwell_seconds"].to_numpy())
    seconds = (log.events["event_time"] - pd.Timestamp(0, tz=UTC)).dt.total_seconds().to_numpy()
    rows: dict[Any, Any] = log.events.groupby("user_id").indices
    return [
        History({**columns_of(seconds[at], item[at], strength[at]), "type_index": kind[at]}, user)
        for user, at in ((place, rows[name]) for place, name in enumerate(log.users["user_id"]) if name in rows)
    ]


def end_of(log: SyntheticLog) -> float:
    """The first instant after a log, in epoch seconds."""
    return datetime.combine(log.first_day + timedelta(days=log.days), time(), UTC).timestamp()
