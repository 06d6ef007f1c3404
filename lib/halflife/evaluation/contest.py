"""The baselines of a run: their settings from the config, and what each needs fitted at a cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife.config import AlsConfig, EvaluateConfig, RankedBaseline, SarConfig, TifuKnnConfig
from halflife.decay import SECONDS_PER_DAY
from halflife.evaluation import baselines, factors, neighbours
from halflife.evaluation.baselines import History, Personal, Ranker
from halflife.evaluation.neighbours import Sample, Sar, TifuKnn
from halflife.evaluation.protocol import HISTORY, Catalogue

Parameters = float | TifuKnnConfig | AlsConfig | SarConfig | None


@dataclass(frozen=True)
class Setting:
    """One setting of one baseline; `parameters` is a half-life in days, a section of the config, or None."""

    baseline: RankedBaseline
    parameters: Parameters = None

    @property
    def label(self) -> str:
        """What tells it from the baseline's other settings."""
        if isinstance(self.parameters, float):
            return half_life_name(self.parameters)
        if self.parameters is None:
            return self.baseline
        values = self.parameters.model_dump().values()
        return f"{self.baseline}({', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)})"

    @property
    def half_life_days(self) -> float:
        """The half-life of a setting that is one."""
        assert isinstance(self.parameters, float)
        return self.parameters


def half_life_name(days: float) -> str:
    """What a half-life is called that was not tuned."""
    return f"half_life_{days:g}d"


def settings(options: EvaluateConfig) -> list[Setting]:
    """Every setting of every ranked baseline of the run, in the order of the config."""
    grids: Mapping[RankedBaseline, Iterable[Parameters]] = {
        "half_life_tuned": sorted(options.half_lives_days),
        "tifu_knn": options.tifu_knn,
        "als": options.als,
        "sar": options.sar,
    }
    return [Setting(name, each) for name in options.ranked for each in grids.get(name, (None,))]


@dataclass(frozen=True)
class Known:
    """All that is known at a cut, an epoch second: the catalogue, rows of its items, and the users' histories."""

    kept: Catalogue
    before: DataFrame
    histories: DataFrame
    cut_seconds: float


@dataclass(frozen=True)
class Fitted:
    """Rankers by the name to show, and of each user what was fitted to it: user_index and further columns, or None."""

    rankers: Mapping[str, Ranker]
    users: DataFrame | None

    @property
    def columns(self) -> tuple[str, ...]:
        """What was fitted to each user."""
        return () if self.users is None else tuple(name for name in self.users.columns if name != "user_index")


def fit(named: Mapping[str, Setting], known: Known, options: EvaluateConfig) -> Fitted:
    """Fit each setting to what is known at the cut; the rankers by the given names."""
    count, share = max(options.cutoffs), known.kept.popularity_share
    rankers: dict[str, Ranker] = {}
    fitted: list[DataFrame] = []
    sample, similar = None, dict[SarConfig, Any]()
    if any(isinstance(setting.parameters, TifuKnnConfig | SarConfig) for setting in named.values()):
        sample = _sample(known, options.neighbour_users)
    for place, (name, setting) in enumerate(named.items()):
        parameters = setting.parameters
        if isinstance(parameters, AlsConfig):
            rankers[name], users = factors.fit(known.before, share.size, parameters, f"factors_{place}", count)
            fitted.append(users)
        elif isinstance(parameters, TifuKnnConfig) and sample is not None:
            rankers[name] = TifuKnn.fitted(sample, share.size, parameters, count)
        elif isinstance(parameters, SarConfig) and sample is not None:
            shared = parameters.model_copy(update={"half_life_days": 1.0})
            if shared not in similar:
                similar[shared] = neighbours.similar_items(sample, share.size, parameters)
            rankers[name] = Sar(parameters.half_life_days, similar[shared], share, count)
        else:
            rankers[name] = Personal(_personal(setting, known.kept, count))
    return Fitted(rankers, reduce(_beside, fitted) if fitted else None)


def _personal(setting: Setting, kept: Catalogue, count: int) -> Any:
    share = kept.popularity_share
    if isinstance(setting.parameters, float):
        decayed = partial(baselines.decayed_frequency, half_life_days=setting.parameters)
        return partial(decayed, popularity_share=share, count=count)
    if setting.baseline == "popularity":
        return partial(_popularity, baselines.popularity(share.size, count))
    rank = {"recency": baselines.recency, "personal_frequency": baselines.frequency}[setting.baseline]
    return partial(rank, popularity_share=share, count=count)


def _popularity(best: baselines.Integers, _history: History) -> baselines.Integers:
    return best


def _beside(left: DataFrame, right: DataFrame) -> DataFrame:
    return left.join(right, on="user_index", how="full")


def _sample(known: Known, users: int) -> Sample:
    """At most so many users with a history, the same ones whatever the partitions."""
    chosen = known.histories.orderBy(F.xxhash64("user_index"), "user_index").limit(users)
    frame = chosen.toPandas().sort_values("user_index")
    return Sample(frame["user_index"].to_numpy(dtype=np.int64), histories_of(frame, known.cut_seconds))


def histories_of(frame: pd.DataFrame, cut_seconds: float) -> list[History]:
    """The histories of the columns HISTORY; an empty one where they are null."""
    rows = zip(*(frame[name] for name in HISTORY), strict=True)
    return [_history(cut_seconds, *row) for row in rows]


def _history(cut_seconds: float, columns: Any, seconds: Any, sessions: Any) -> History:
    if columns is None:
        nothing = np.empty(0, dtype=np.int64)
        return History(nothing, np.empty(0), nothing)
    _, first, place = np.unique(sessions, return_index=True, return_inverse=True)
    number = np.empty(first.size, dtype=np.int64)
    number[np.argsort(first)] = np.arange(first.size)
    ages = (cut_seconds - np.asarray(seconds, dtype=np.float64)) / SECONDS_PER_DAY
    return History(np.asarray(columns, dtype=np.int64), ages, number[place])
