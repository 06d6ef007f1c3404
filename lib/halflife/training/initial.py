"""Where training starts: popularity, repeat propensity, and the memory at the classical law."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halflife.config import ModelConfig
from halflife.decay import LN2, SECONDS_PER_DAY
from halflife.model.architecture import Architecture
from halflife.model.content import category_names, content_of, feature_names, vector_sizes
from halflife.model.network import Network
from halflife.training.examples import History, log_days, session_log_sizes

Counts = NDArray[np.float64]

# Events of an item that its repeat propensity is shrunk by, towards that of the whole log.
PRIOR_EVENTS = 10.0
# Returns of an item that their mean silence is shrunk by.
PRIOR_RETURNS = 5.0
# How many sums over its events are counted of each item.
ITEM_SUMS = 5
# Strength that an item without any event starts with.
UNSEEN_STRENGTH = 0.1
# Log-count is brought to about -1..1.
LOG_COUNT_SCALE = 5.0


@dataclass(frozen=True)
class ItemCounts:
    """Positive events of each item: all, those that were returns, and the strength of first visits; user-days seen.

    And sums of the logarithm of the events in an event's session, over all events, and of ln(1 + days) of silence, over
    returns.
    """

    events: Counts
    returns: Counts
    first_strength: Counts
    log_size: Counts
    log_silence: Counts
    user_days: float

    def packed(self) -> Counts:
        """All numbers in one array, to be summed over ranks."""
        per_item = [self.events, self.returns, self.first_strength, self.log_size, self.log_silence]
        return np.concatenate([*per_item, [self.user_days]])

    @staticmethod
    def unpacked(packed: Counts) -> ItemCounts:
        """The counts from `packed`."""
        events, returns, first, size, silence = np.split(packed[:-1], ITEM_SUMS)
        return ItemCounts(events, returns, first, size, silence, float(packed[-1]))

    @property
    def log_propensity(self) -> Counts:
        """Logarithm of each item's share of returns over that of the whole log, smoothed: (items + 1,)."""
        return np.asarray(np.log(self._propensity() / self._mean()))

    @property
    def features(self) -> Counts:
        """What the jump sees of each item, see `architecture.ITEM_FEATURES`: (items + 1, ITEM_FEATURES).

        Sizes and silences are differences to those of the whole log.
        """
        share = self._propensity()
        columns = [
            np.log(share / (1 - share)),
            np.log1p(self.events) / LOG_COUNT_SCALE - 1,
            _shrunk(self.log_size, self.events, PRIOR_EVENTS),
            _shrunk(self.log_silence, self.returns, PRIOR_RETURNS),
        ]
        return np.stack(columns, axis=1)

    @property
    def log_rates(self) -> Counts:
        """Logarithm of the strength that a user's first visits bring each item a day: (items + 1,)."""
        return np.asarray(np.log((self.first_strength + UNSEEN_STRENGTH) / max(self.user_days, 1.0)))

    def _mean(self) -> float:
        return float((self.returns.sum() + 1) / (self.events.sum() + 2))

    def _propensity(self) -> Counts:
        return (self.returns + PRIOR_EVENTS * self._mean()) / (self.events + PRIOR_EVENTS)


def count_items(histories: Iterable[History], items: int, before_seconds: float) -> ItemCounts:
    """Counts over the events before `before_seconds`; the last row, of items not known in training, stays empty."""
    rows = items + 1
    sums = np.zeros((ITEM_SUMS, rows))
    days = 0.0
    for history in histories:
        history = history.before(before_seconds)  # a session that goes on after it counts as far as it is known
        chosen = history.strength > 0
        if not chosen.any():
            continue
        item, first = history.item[chosen], history.first_visit[chosen]
        silence = log_days(history.columns["revisit_gap_log"][chosen])
        size, strength = session_log_sizes(history)[chosen], history.strength[chosen]
        for total, weights in zip(sums, (None, ~first, strength * first, size, silence * ~first), strict=True):
            total += np.bincount(item, weights=weights, minlength=rows)
        days += (before_seconds - float(history.seconds[0])) / SECONDS_PER_DAY
    return ItemCounts.unpacked(np.append(sums, days))


def _shrunk(total: Counts, number: Counts, prior: float) -> Counts:
    """Means of an item's `number` values less the mean of all, shrunk towards zero as if by `prior` values more."""
    mean = total.sum() / max(number.sum(), 1.0)
    return np.asarray((total - mean * number) / (number + prior))


def new_network(config: ModelConfig, items: pd.DataFrame, event_types: int, sequence_length: int) -> Network:
    """An untrained network for a catalogue (columns of the items table, item_index 0..n-1 in order)."""
    categories = category_names(items)
    architecture = Architecture(
        items=len(items),
        event_types=event_types,
        categories=len(categories) + 1,
        sequence_length=sequence_length,
        features=feature_names(items),
        vectors=vector_sizes(items),
        **config.model_dump(exclude={"kind", "half_life_days", "fit_half_life", "dropout"}),
    )
    content = content_of(
        items, categories, architecture.features, architecture.feature_buckets, architecture.vectors
    ).with_cold()
    return Network(architecture, content, config.dropout)


def start_network(network: Network, counts: ItemCounts, law_days: float) -> None:
    """Set a new network to the baseline that it has to beat: popularity, and the classical law by propensity."""
    network.items.bias.assign(counts.log_rates)
    network.items.features.assign(counts.features)
    network.items.log_propensity.assign(counts.log_propensity)
    repeats = float((counts.returns.sum() + 1) / (counts.events.sum() + 2))
    network.jump.bias.assign(law_log_rates(network.architecture.half_lives_days, law_days, repeats))


def follow_counts(network: Network, before: ItemCounts, after: ItemCounts) -> None:
    """Move a trained network on to newer counts: popularity by as much as it changed, propensity to its new value."""
    network.items.bias.assign(network.items.bias.numpy() + after.log_rates - before.log_rates)
    network.items.features.assign(after.features)
    network.items.log_propensity.assign(after.log_propensity)


def law_log_rates(half_lives_days: tuple[float, ...], law_days: float, repeats: float) -> NDArray[np.float32]:
    """Log-rates per day with which an event's jump starts as the classical law: (K,).

    An event is followed by `repeats` more in the long run, at a rate that halves in `law_days`; the law stands
    between the two channels next to it, and every other channel starts with a hundredth.
    """
    logs = np.log(np.asarray(half_lives_days))
    place = np.interp(np.log(law_days), logs, np.arange(len(logs)))
    share = np.maximum(0.0, 1.0 - np.abs(np.arange(len(logs)) - place)) + 0.01
    return np.asarray(np.log(repeats * share / share.sum()) + np.log(LN2) - logs, dtype=np.float32)
