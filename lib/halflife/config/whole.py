"""The sections together."""

from __future__ import annotations

from pydantic import Field, model_validator

from halflife.config.cluster import ClusterConfig
from halflife.config.evaluation import AlarmsConfig, EvaluateConfig
from halflife.config.scoring import DeliverConfig, KeepConfig, ScoreConfig
from halflife.config.section import Section
from halflife.config.sequences import SessionizeConfig, StrengthConfig
from halflife.config.sources import CatalogueConfig, EventTypeConfig, PseudonymsConfig, SourceConfig
from halflife.config.training import ModelConfig, TrainConfig


class Config(Section):
    """The whole configuration of every job; each job reads its own part."""

    warehouse: str
    sources: dict[str, SourceConfig] = Field(min_length=1)
    event_types: dict[str, EventTypeConfig] = Field(min_length=1)
    users: CatalogueConfig | None = None
    items: CatalogueConfig | None = None
    pseudonyms: PseudonymsConfig | None = None
    sessionize: SessionizeConfig = SessionizeConfig()
    strength: StrengthConfig = StrengthConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    alarms: AlarmsConfig = AlarmsConfig()
    keep: KeepConfig = KeepConfig()
    deliver: DeliverConfig = DeliverConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _source_types_are_known(self) -> Config:
        for name, source in self.sources.items():
            if source.event_type is not None and source.event_type not in self.event_types:
                known = ", ".join(self.event_types)
                raise ValueError(f"sources.{name}.event_type: {source.event_type!r} is none of {known}")
            for kind in source.type_patterns:
                if kind not in self.event_types:
                    raise ValueError(f"sources.{name}.type_patterns: {kind!r} is none of {', '.join(self.event_types)}")
        default = self.sessionize.default_event_type
        if default is not None and default not in self.event_types:
            raise ValueError(f"sessionize.default_event_type: {default!r} is none of {', '.join(self.event_types)}")
        return self
