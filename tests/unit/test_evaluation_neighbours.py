"""TIFU-KNN and SAR against their definitions, written out user by user and item by item."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from halflife.config import SarConfig, TifuKnnConfig
from halflife.evaluation import neighbours
from halflife.evaluation.baselines import POPULARITY_BACKOFF, Block, History
from halflife.evaluation.neighbours import Sample, Sar, TifuKnn

COLUMNS = 12
seeds = st.integers(0, 2**32 - 1)


def a_history(random: np.random.Generator) -> History:
    """Some sessions of distinct items, the last of them nearest to the cut."""
    count = int(random.integers(1, 9))
    baskets = [random.choice(COLUMNS, int(random.integers(1, 5)), replace=False) for _ in range(count)]
    sessions = np.repeat(np.arange(count), [basket.size for basket in baskets])
    return History(np.concatenate(baskets), 3.0 * (count - sessions), sessions)


def a_sample(seed: int, users: int = 9) -> Sample:
    random = np.random.default_rng(seed)
    return Sample(np.arange(users) * 3, [a_history(random) for _ in range(users)])


def tifu_oracle(history: History, options: TifuKnnConfig) -> NDArray[np.float64]:
    """The vector as the paper has it: groups from the newest back, means of decayed means."""
    baskets = defaultdict(set)
    for column, session in zip(history.columns.tolist(), history.sessions.tolist(), strict=True):
        baskets[session].add(column)
    order = [baskets[session] for session in sorted(baskets)]
    groups = []
    while order:
        groups.insert(0, order[-options.group_size :])
        order = order[: -options.group_size]
    vector = np.zeros(COLUMNS)
    for place, group in enumerate(groups):
        mean = np.zeros(COLUMNS)
        for number, basket in enumerate(group):
            mean[list(basket)] += options.within_decay ** (len(group) - 1 - number) / len(group)
        vector += options.between_decay ** (len(groups) - 1 - place) * mean / len(groups)
    return vector


@given(seeds, st.integers(1, 4))
def test_tifu_vectors_are_the_papers(seed: int, group_size: int) -> None:
    options = TifuKnnConfig(group_size=group_size, within_decay=0.9, between_decay=0.7)
    sample = a_sample(seed)
    expected = np.stack([tifu_oracle(history, options) for history in sample.histories])
    assert neighbours.tifu_vectors(sample.histories, COLUMNS, options).toarray() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=30)
@given(seeds)
def test_tifu_knn_mixes_a_users_own_vector_with_its_nearest_neighbours(seed: int) -> None:
    options = TifuKnnConfig(group_size=2, neighbours=3, own_share=0.6)
    sample = a_sample(seed)
    vectors = np.stack([tifu_oracle(history, options) for history in sample.histories])
    knn = TifuKnn.fitted(sample, COLUMNS, options, COLUMNS)
    stranger = a_history(np.random.default_rng(seed + 1))  # user 4 is not in the sample
    ranked = knn(Block(np.array([6, 4]), [sample.histories[2], stranger]))
    others = {6: [place for place in range(9) if place != 2], 4: list(range(9))}
    for row, (user, own) in enumerate([(6, vectors[2]), (4, tifu_oracle(stranger, options))]):
        distance = {place: float(((vectors[place] - own) ** 2).sum()) for place in others[user]}
        nearest = sorted(distance, key=distance.__getitem__)
        if len({round(distance[place], 6) for place in nearest[2:4]}) == 1:
            return  # two are equally near: either may be taken
        scores = 0.6 * own + 0.4 * vectors[nearest[:3]].mean(axis=0)
        assert scores[ranked[row]] == pytest.approx(np.sort(scores)[::-1], abs=1e-6)


@given(seeds, st.sampled_from(["jaccard", "lift", "cooccurrence"]))
def test_the_similarity_of_items_is_that_of_their_users(seed: int, similarity: str) -> None:
    sample = a_sample(seed)
    users = [{row for row, h in enumerate(sample.histories) if item in h.columns} for item in range(COLUMNS)]
    expected = np.zeros((COLUMNS, COLUMNS))
    for a, of_a in enumerate(users):
        for b, of_b in enumerate(users):
            by = {"jaccard": len(of_a | of_b), "lift": len(of_a) * len(of_b), "cooccurrence": 1}[similarity]
            expected[a, b] = len(of_a & of_b) / max(by, 1)
    options = SarConfig.model_validate({"similarity": similarity})
    found = neighbours.similar_items(sample, COLUMNS, options).toarray()
    assert found == pytest.approx(expected, rel=1e-5)

    few = neighbours.similar_items(sample, COLUMNS, options.model_copy(update={"similar_items": 3})).toarray()
    assert np.sort(few, axis=1)[:, -3:] == pytest.approx(np.sort(expected, axis=1)[:, -3:], rel=1e-5)
    assert (np.count_nonzero(few, axis=1) <= 3).all()


@given(seeds)
def test_sar_is_the_decayed_count_times_the_similarity(seed: int) -> None:
    sample = a_sample(seed)
    similarity = neighbours.similar_items(sample, COLUMNS, SarConfig())
    share = np.linspace(1, 0.5, COLUMNS)
    ranked = Sar(30.0, similarity, share, COLUMNS)(Block(sample.users, sample.histories))
    for row, history in enumerate(sample.histories):
        affinity = np.bincount(history.columns, 2.0 ** (-history.age_days / 30.0), minlength=COLUMNS)
        scores = affinity @ similarity.toarray() + POPULARITY_BACKOFF * share
        assert scores[ranked[row]] == pytest.approx(np.sort(scores)[::-1], rel=1e-5)
