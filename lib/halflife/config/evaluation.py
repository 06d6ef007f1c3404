"""How scores are judged, and what raises an alarm."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from halflife.config.section import OffIsAWord, PositiveFloat, PositiveInt, Section, Share


class TifuKnnConfig(Section):
    """One setting of TIFU-KNN (Hu et al., SIGIR 2020)."""

    group_size: PositiveInt = Field(default=7, description="sessions that are averaged before groups are")
    within_decay: Share = Field(default=0.9, description="what a session counts beside the next of its group")
    between_decay: Share = Field(default=0.7, description="what a group counts beside the next")
    neighbours: PositiveInt = 300
    own_share: Share = Field(default=0.7, description="of a user's own vector; the rest is the neighbours'")


class AlsConfig(Section):
    """One setting of Spark's implicit ALS."""

    rank: PositiveInt = 32
    regularisation: PositiveFloat = 0.1
    confidence: PositiveFloat = Field(default=1.0, description="what a session adds to the weight of a pair: alpha")
    iterations: PositiveInt = 6


class SarConfig(Section):
    """One setting of SAR (Microsoft Recommenders)."""

    half_life_days: PositiveFloat = 30.0
    similarity: Literal["jaccard", "lift", "cooccurrence"] = "jaccard"
    similar_items: PositiveInt = Field(default=200, description="most similar items that are kept of each")


RankedBaseline = Literal[
    "popularity", "recency", "personal_frequency", "half_life_tuned", "tifu_knn", "als", "sar"
]  # fmt: skip


Baseline = Literal[RankedBaseline, "constant_rate"]


class EvaluateConfig(Section):
    event_types: tuple[str, ...] = Field(
        default=("purchase",), min_length=1, max_length=31, description="what a basket holds"
    )
    first_night: date | None = Field(default=None, description="to judge; null: the first that was scored")
    last_night: date | None = Field(default=None, description="to judge; null: the last whose horizon has passed")
    newest_nights: PositiveInt | None = Field(
        default=None, description="judge only the last of those, and none is no error: 1 for a nightly chain"
    )
    min_users_per_item: PositiveInt = 5
    baselines: tuple[Baseline, ...] = Field(
        default=get_args(Baseline), description="what the model is compared with; fewer take less time"
    )
    cutoffs: tuple[PositiveInt, ...] = Field(default=(5, 10, 20), min_length=1, description="of the ranking metrics")
    tuning_cutoff: PositiveInt = Field(default=10, description="baselines are tuned by the NDCG at this cut-off")
    half_lives_days: tuple[PositiveFloat, ...] = Field(
        default=(7.0, 30.0, 60.0, 90.0, 120.0, 180.0),
        min_length=1,
        description="grid of the single half-life; all grids are tuned on the validation days only",
    )
    reported_half_lives_days: tuple[PositiveFloat, ...] = Field(
        default=(90.0,), description="shown beside the tuned half-life, whatever the tuning says"
    )
    tifu_knn: tuple[TifuKnnConfig, ...] = Field(
        default=(
            TifuKnnConfig(),
            TifuKnnConfig(group_size=3, between_decay=0.9, neighbours=100),
            TifuKnnConfig(group_size=3, between_decay=0.9, neighbours=300, own_share=0.9),
        ),
        min_length=1,
        description="grid",
    )
    als: tuple[AlsConfig, ...] = Field(default=(AlsConfig(),), min_length=1, description="grid")
    sar: tuple[SarConfig, ...] = Field(
        default=(SarConfig(), SarConfig(half_life_days=90.0)), min_length=1, description="grid"
    )
    neighbour_users: PositiveInt = Field(
        default=10_000, description="sample of users whom TIFU-KNN and SAR compare with, held by the driver"
    )
    validation_days: PositiveInt = 28
    users_per_block: PositiveInt = 64
    calibration_bins: PositiveInt = 10
    bootstrap_replicates: PositiveInt = 1_000
    bootstrap_buckets: Annotated[int, Field(ge=2)] = Field(
        default=1_000, description="groups of users, by a hash, that the bootstrap draws"
    )

    @model_validator(mode="after")
    def _tuned_by_a_cutoff(self) -> EvaluateConfig:
        if self.tuning_cutoff not in self.cutoffs:
            raise ValueError(f"tuning_cutoff: {self.tuning_cutoff} is none of the cutoffs")
        return self

    @property
    def ranked(self) -> tuple[RankedBaseline, ...]:
        """The baselines that rank items."""
        return tuple(name for name in self.baselines if name != "constant_rate")


class AlarmConfig(Section):
    """The bounds of one figure, and what happens outside them: stop the run (exit 4, nothing is published), warn, or
    nothing. With times_median they are multiples of the median of the last nights; there is none without such nights.
    """

    low: float | None = None
    high: float | None = None
    action: Annotated[Literal["stop", "warn", "off"], OffIsAWord] = "warn"
    times_median: bool = False

    @model_validator(mode="after")
    def _low_below_high(self) -> AlarmConfig:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class AlarmsConfig(Section):
    """What is watched of every run. A figure's keys that are left out keep the values that stand here."""

    recent_nights: PositiveInt = Field(default=7, description="whose median is the unit of times_median")
    rows_per_day: AlarmConfig = Field(
        default=AlarmConfig(low=0.2, high=5.0, times_median=True),
        description="sessionize: accepted events a day since the last night",
    )
    quarantine_share: AlarmConfig = Field(
        default=AlarmConfig(high=0.5, action="stop"), description="sessionize: rejected rows of all that were read"
    )
    encoded_share: AlarmConfig = Field(
        default=AlarmConfig(low=0.2, high=5.0, times_median=True),
        description="score: users whom the encoder met, of all; not where the states were made anew",
    )
    score_quantiles: AlarmConfig = Field(
        default=AlarmConfig(low=0.5, high=2.0, times_median=True),
        description="score: each of score_p50, score_p90, score_p99 and score_p99.9",
    )
    calibration: AlarmConfig = Field(
        default=AlarmConfig(low=0.5, high=2.0),
        description="evaluate: of a matured night, pairs that the scores foretell over those that came true",
    )
    repeat_calibration: AlarmConfig = Field(
        default=AlarmConfig(low=0.5, high=2.0),
        description="evaluate: the same of pairs that had events before, which another user's scores do not foretell",
    )
    log_loss_lead: AlarmConfig = Field(
        default=AlarmConfig(low=0.0),
        description="evaluate: how much lower the scores' log loss is than that of popularity, of the latter",
    )
    ndcg_lead: AlarmConfig = Field(
        default=AlarmConfig(low=0.0),
        description="evaluate: NDCG of the recommendations minus that of popularity, at evaluate.tuning_cutoff",
    )

    @model_validator(mode="before")
    @classmethod
    def _over_the_defaults(cls, given: Any) -> Any:
        """`quarantine_share: {high: .3}` still stops."""
        if not isinstance(given, dict):
            return given
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {
            name: {**defaults[name].model_dump(), **value}
            if isinstance(value, dict) and isinstance(defaults.get(name), AlarmConfig)
            else value
            for name, value in given.items()
        }
