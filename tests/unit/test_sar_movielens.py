"""The evaluation's own arithmetic on a published result: SAR on MovieLens 100k, as Microsoft Recommenders print it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from halflife.config import SarConfig
from halflife.decay import SECONDS_PER_DAY, decay
from halflife.evaluation import metrics, neighbours
from halflife.evaluation.baselines import History
from halflife.evaluation.neighbours import Sample, Sar
from halflife.topn import top_columns

ROOT = Path(__file__).parents[2]
RATINGS = Path(os.environ.get("HALFLIFE_MOVIELENS", ROOT / ".demo/ml-100k/ml-100k.inter"))
TOP = 10

pytestmark = pytest.mark.skipif(
    not RATINGS.is_file(), reason=f"no {RATINGS}: it lies in the wheel of recbole 1.2.1; set HALFLIFE_MOVIELENS"
)


def split(ratings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three quarters of each user's ratings, and the others, by their stratified split with seed 42.

    It draws a number a row, in the order of the file, and takes a user's rows with the lowest.
    """
    drawn = ratings.assign(drawn=np.random.RandomState(42).rand(len(ratings))).sort_values(["user", "drawn"])
    by_user = drawn.groupby("user")["user"]
    known = by_user.cumcount() < (0.75 * by_user.transform("count")).round()
    return drawn[known], drawn[~known]


def test_sar_on_movielens_is_as_published() -> None:
    names = ["user", "item", "rating", "seconds"]
    known, held_out = split(pd.read_csv(RATINGS, sep="\t", names=names, skiprows=1))
    columns = pd.Index(known["item"].unique())
    age_days = (known["seconds"].max() - known["seconds"]) / SECONDS_PER_DAY
    histories, weights = [], []
    for _, rows in known.groupby("user"):
        ages = age_days[rows.index].to_numpy()
        histories.append(History(columns.get_indexer(rows["item"]), ages, np.arange(len(rows))))
        weights.append(decay(ages, [30.0])[:, 0] * rows["rating"].to_numpy(dtype=np.float64))
    sample = Sample(known["user"].unique(), histories)
    similarity = neighbours.similar_items(sample, columns.size, SarConfig(similar_items=columns.size))
    sar = Sar(30.0, similarity, np.zeros(columns.size), TOP)

    scores, relevant = sar.scores(histories, weights), np.zeros((len(histories), columns.size), dtype=np.bool_)
    for user, history in enumerate(histories):
        scores[user, history.columns] = -np.inf  # what they have rated is not recommended
    user, column = np.searchsorted(sample.users, held_out["user"]), columns.get_indexer(held_out["item"])
    relevant[user[column >= 0], column[column >= 0]] = True
    sizes = np.bincount(user)

    found = metrics.hits(top_columns(scores, TOP), relevant)
    assert metrics.average_precision_at(found, sizes, TOP).mean() == pytest.approx(0.106959, abs=1e-6)
    assert metrics.ndcg_at(found, sizes, TOP).mean() == pytest.approx(0.379533, abs=1e-6)
    assert metrics.precision_at(found, TOP).mean() == pytest.approx(0.331071, abs=1e-6)
    assert metrics.recall_at(found, sizes, TOP).mean() == pytest.approx(0.176837, abs=1e-6)
