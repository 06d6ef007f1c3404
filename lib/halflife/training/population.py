"""The users that a rank reads: counted, held out, and brought to the batches of an epoch.

The users are shared out to `train.shards` virtual shards, and the ranks read the shards. A step takes from each shard
its share of the shard's users, so a batch of all ranks is the same whatever their number, every shard ends with the
last step, and all ranks take the same number of steps: a rank without rows adds empty batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY
from halflife.errors import InputMissingError
from halflife.model.batch import Batch
from halflife.model.network import Network
from halflife.training import feed
from halflife.training.augmentation import augmented
from halflife.training.batches import batch_of
from halflife.training.examples import History, random_cuts
from halflife.training.initial import ITEM_SUMS, ItemCounts, count_items
from halflife.training.ranks import largest, summed
from halflife.training.stretch import Stretches
from halflife.training.task import TrainingTask
from halflife.training.validation import ValidationUsers

# Of the time before the first cut, how much is history only: the first examples need something to look back on.
HISTORY_SHARE = 0.15
# The validation users and the first count are read in an order of their own, the same in every run.
COUNT_SEED = 0
USERS_PER_COUNT = 512


def midnights_each(examples: int, users: int) -> int:
    """Held-out midnights of each user where there are fewer users than `examples` to hold out.

    One of each is too few of a small log: of 500 users the loss differed by more from epoch to epoch than by what was
    learned, and an epoch was the best that had hardly begun (`scripts/bench truth --only news --seed 8`).
    """
    return max(examples // max(users, 1), 1)


class Population:
    """All users of a training table, of which this rank reads those of its shards.

    users (shards,) counts those of all ranks, counts and counts_before_tuning each item's events before the validation
    days and before those that the law is tuned on; first_seconds is the first event's time, steps how many an epoch
    has. held_out and tuning are this rank's examples of the validation days and of as many days before them, unseen
    those of the days that the champion has not seen either.
    """

    def __init__(self, task: TrainingTask, items: int) -> None:
        """Read all users once. Raises InputMissingError where none has a past before the validation days."""
        self.task, self.items = task, items
        self.shards = feed.shards_with_rows(task.rows, task.train.shards)
        self.users = np.zeros(self.shards)
        self.first_seconds = task.as_of_seconds
        each = midnights_each(task.train.validation_users, feed.users_of(task.rows))
        self.held_out, self.tuning, self.unseen = (ValidationUsers(each) for _ in range(3))
        self.counts, self.counts_before_tuning = self._read_through()
        self.steps: int = math.ceil(self.users.sum() / task.train.users_per_batch)

    def batches(self, end_seconds: float, epoch: int, begin: int = 0) -> Iterator[Batch]:
        """This rank's part of the batches of an epoch from step `begin` on."""
        train, horizon = self.task.train, self.task.model.horizon_days
        last = end_seconds - horizon * SECONDS_PER_DAY
        first = self.first_seconds + HISTORY_SHARE * (last - self.first_seconds)
        users = {
            shard: islice(self._histories(shard, train.seed + epoch, end_seconds), self.taken(shard, begin), None)
            for shard in self._own_shards()
        }
        for step in range(begin, self.steps):
            rows, seen, cuts = [], [], []
            for shard, source in users.items():
                for place in range(self.taken(shard, step), self.taken(shard, step + 1)):
                    row, rng = next(source), np.random.default_rng([train.seed, epoch, shard, place])
                    found = random_cuts(row, train.cuts_per_user, first, last, train.recency_days, rng)
                    varied = augmented(row, train.augmentation, rng)
                    rows.append(row)
                    seen.append(varied)
                    # A history that was made to begin later, or lost its events, knows nothing at the earlier cuts.
                    cuts.append(found[found > varied.seconds[0]] if len(varied) else found[:0])
            yield batch_of(seen, cuts, self.task.sequence_length, horizon, rows)

    def taken(self, shard: int, steps: int) -> int:
        """How many of a shard's users the first `steps` steps of an epoch take: all shards end with the last step."""
        return int(self.users[shard]) * steps // self.steps

    def counts_until(self, end_seconds: float) -> ItemCounts:
        """Events of each item before `end_seconds`, of all ranks."""
        counts = np.zeros_like(self.counts.packed())
        for shard in self._own_shards():
            counts += count_items(self._histories(shard, COUNT_SEED, end_seconds), self.items, end_seconds).packed()
        return ItemCounts.unpacked(summed(counts))

    def stretches(self, network: Network, before_seconds: float) -> NDArray[np.float32] | None:
        """The stretch of all users at a time, by their index, where the network has one; without events it is 0."""
        if network.stretch is None:
            return None
        parts, stretches = [np.empty((0, 2))], Stretches(network)
        for shard in self._own_shards():
            users = self._histories(shard, COUNT_SEED, before_seconds)
            parts.append(np.stack(stretches.of(users, before_seconds), axis=1))
        # A float64 holds an index exactly.
        found = hvd.allgather(tf.constant(np.concatenate(parts), dtype=tf.float64)).numpy()
        stretch = np.zeros(int(found[:, 0].max(initial=-1)) + 1, dtype=np.float32)
        stretch[found[:, 0].astype(np.int64)] = found[:, 1]
        return stretch

    def _own_shards(self) -> range:
        return range(hvd.rank(), self.shards, hvd.size())

    def _histories(self, shard: int, seed: int, before_seconds: float) -> Iterator[History]:
        return feed.histories(
            self.task.rows,
            before_seconds=before_seconds,
            shard=shard,
            shards=self.shards,
            seed=seed,
            shuffle_rows=self.task.train.shuffle_rows,
        )

    def _read_through(self) -> tuple[ItemCounts, ItemCounts]:
        """Count users, and items before the validation days and before those the law is tuned on; hold users out."""
        task, starts = self.task, (self.task.validation_start, self.task.tuning_start)
        counts = [np.zeros(ITEM_SUMS * (self.items + 1) + 1) for _ in starts]
        for shard in self._own_shards():
            users = self._noted(shard)
            while chunk := list(islice(users, USERS_PER_COUNT)):
                for count, start in zip(counts, starts, strict=True):
                    count += count_items(chunk, self.items, start).packed()
        self.users = summed(self.users)
        self.first_seconds = -largest(-self.first_seconds)
        if largest(len(self.held_out.midnights)) == 0:
            raise InputMissingError(
                f"{task.rows}: no user has events before the validation days, so there is nothing to learn from: "
                "the log is too short for train.validation_days"
            )
        before_validation, before_tuning = (ItemCounts.unpacked(summed(count)) for count in counts)
        return before_validation, before_tuning

    def _noted(self, shard: int) -> Iterator[History]:
        """A shard's users, counted; the first of them held out as validation and tuning users."""
        task, horizon = self.task, self.task.model.horizon_days
        share = math.ceil(task.train.validation_users / self.shards)
        for place, history in enumerate(self._histories(shard, COUNT_SEED, task.as_of_seconds), start=1):
            self.users[shard] += 1
            self.first_seconds = min([self.first_seconds, *history.seconds[:1]])
            if place <= share:
                self.held_out.add(history, task.validation_start, task.as_of_seconds, horizon, place)
                self.tuning.add(history, task.tuning_start, task.validation_start, horizon, place)
                self.unseen.add(history, task.unseen_start, task.as_of_seconds, horizon, place)
            yield history
