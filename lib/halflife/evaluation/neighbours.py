"""Baselines that look at other users: TIFU-KNN and SAR, as sparse products over a bounded sample of users.

Both compare users or items by what a sample of users did, which the driver holds and every worker gets. TIFU-KNN looks
through the whole sample for each user it ranks, and SAR counts every pair of items that any of them has: neither grows
to all users of a large log, so `evaluate.neighbour_users` bounds the sample, and they are estimates beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import sparse

from halflife.config import SarConfig, TifuKnnConfig
from halflife.decay import decay
from halflife.evaluation.baselines import POPULARITY_BACKOFF, Block, Floats, History, Integers
from halflife.topn import top_columns

Matrix = Any  # scipy.sparse.csr_matrix: scipy ships no types

# Items whose co-occurrences with all others are held at once: 1,024 x 50,000 counts are 400 MB at the very most.
ITEMS_PER_STEP: Final = 1_024


@dataclass(frozen=True)
class Sample:
    """The users that others are compared with: their indices, ascending, and their histories."""

    users: Integers
    histories: Sequence[History]


def _stacked(histories: Sequence[History], weights: Sequence[Floats], columns: int) -> Matrix:
    """One row a user: the summed weights of its columns, float32."""
    lengths = [history.columns.size for history in histories]
    rows = np.repeat(np.arange(len(histories)), lengths)
    place = (rows, np.concatenate([np.empty(0, dtype=np.int64), *(history.columns for history in histories)]))
    values = np.concatenate([np.empty(0), *weights]).astype(np.float32)
    return sparse.csr_matrix((values, place), shape=(len(histories), columns))


def tifu_vectors(histories: Sequence[History], columns: int, options: TifuKnnConfig) -> Matrix:
    """Each user's temporal item frequency vector (users, columns).

    Sessions are taken in groups of `group_size`, counted from the newest, so that the oldest group may be smaller. A
    session counts within_decay^(sessions after it in its group), averaged over the group; a group
    between_decay^(groups after it), averaged over the groups (Hu et al., SIGIR 2020).
    """
    return _stacked(histories, [_tifu_weights(history, options) for history in histories], columns)


def _tifu_weights(history: History, options: TifuKnnConfig) -> Floats:
    sessions, size = history.session_count, options.group_size
    groups = -(-sessions // size)
    later = sessions - 1 - history.sessions
    group = later // size
    oldest = sessions - (groups - 1) * size
    members = np.where(group == groups - 1, oldest, size)
    weights: Floats = options.within_decay ** (later % size) / members * options.between_decay**group / max(groups, 1)
    return weights


@dataclass(frozen=True)
class TifuKnn:
    """TIFU-KNN: a user's own vector and the mean of its nearest neighbours' (Hu et al., SIGIR 2020). A `Ranker`."""

    options: TifuKnnConfig
    users: Integers
    vectors: Matrix
    count: int

    @classmethod
    def fitted(cls, sample: Sample, columns: int, options: TifuKnnConfig, count: int) -> TifuKnn:
        """With the sample's users as possible neighbours."""
        return cls(options, sample.users, tifu_vectors(sample.histories, columns, options), count)

    def __call__(self, block: Block) -> Integers:
        """Columns (B, count), best first."""
        own = tifu_vectors(block.histories, self.vectors.shape[1], self.options)
        share = np.float32(self.options.own_share)
        scores = share * own.toarray() + (1 - share) * (self._nearest(block, own) @ self.vectors).toarray()
        return top_columns(scores, self.count)

    def _nearest(self, block: Block, own: Matrix) -> Matrix:
        """Each user's neighbours by Euclidean distance, never itself: (B, sample), a row adds up to one."""
        distance = _squares(self.vectors)[None, :] - 2 * (own @ self.vectors.T).toarray()
        itself = np.searchsorted(self.users, block.users)
        inside = np.flatnonzero(np.isin(block.users, self.users))
        distance[inside, itself[inside]] = np.inf
        count = min(self.options.neighbours, max(self.users.size - 1, 1))
        nearest = np.argpartition(distance, count - 1, axis=1)[:, :count]
        rows = np.repeat(np.arange(len(nearest)), count)
        shares = np.full(nearest.size, 1 / count, dtype=np.float32)
        return sparse.csr_matrix((shares, (rows, nearest.ravel())), shape=distance.shape)


def _squares(vectors: Matrix) -> Floats:
    return np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel()


def similar_items(sample: Sample, columns: int, options: SarConfig) -> Matrix:
    """Each column's most similar columns, itself among them, with their similarity: (columns, columns) of float32.

    From the number of users that have both: that number itself, over the users that have either (jaccard), or over
    the product of the users of each (lift).
    """
    ones = [np.ones(history.columns.size) for history in sample.histories]
    has = _stacked(sample.histories, ones, columns)
    has.data[:] = 1
    users = np.asarray(has.sum(axis=0)).ravel()
    steps = [np.arange(columns)[begin : begin + ITEMS_PER_STEP] for begin in range(0, columns, ITEMS_PER_STEP)]
    turned = has.T.tocsr()
    return sparse.vstack([_most_similar((turned[step] @ has).tocsr(), users, step, options) for step in steps])


def _most_similar(both: Matrix, users: Floats, step: Integers, options: SarConfig) -> Matrix:
    row = np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
    of_row, of_column = users[step][row], users[both.indices]
    if options.similarity == "jaccard":
        both.data /= of_row + of_column - both.data
    elif options.similarity == "lift":
        both.data /= of_row * of_column
    keep = np.concatenate([np.empty(0, dtype=np.int64), *_largest(both, options.similar_items)])
    place = (row[keep], both.indices[keep])
    return sparse.csr_matrix((both.data[keep], place), shape=both.shape)


def _largest(rows: Matrix, count: int) -> list[Integers]:
    """Of each row the places of its `count` largest values."""
    found = []
    for begin, end in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
        size = int(end - begin)
        chosen = np.arange(size)
        if size > count:
            chosen = np.argpartition(rows.data[begin:end], size - count)[size - count :]
        found.append(begin + chosen.astype(np.int64))
    return found


@dataclass(frozen=True)
class Sar:
    """Simple algorithm for recommendation: decayed counts times the similarity of items (Microsoft Recommenders).

    A `Ranker`. Columns that nothing speaks for follow by popularity.
    """

    half_life_days: float
    similarity: Matrix
    popularity_share: Floats
    count: int

    def __call__(self, block: Block) -> Integers:
        """Columns (B, count), best first."""
        weights = [decay(history.age_days, [self.half_life_days])[:, 0] for history in block.histories]
        return top_columns(self.scores(block.histories, weights), self.count)

    def scores(self, histories: Sequence[History], weights: Sequence[Floats]) -> Floats:
        """Scores (B, n) of histories whose entries count their weights."""
        scores = (_stacked(histories, weights, self.similarity.shape[0]) @ self.similarity).toarray()
        backed: Floats = scores + np.float32(POPULARITY_BACKOFF) * self.popularity_share
        return backed
