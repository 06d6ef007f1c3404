"""The typed configuration: YAML by environment over a common base, checked before Spark starts.

`conf/local.yaml` names its base with `extends: base.yaml`; `--set key.path=value` goes over both. Unknown
keys are refused, so that a misspelt key fails in a second and not at 3 a.m. after an hour.
"""

from halflife.config.cluster import ClusterConfig, ExecutorsConfig, RanksConfig
from halflife.config.evaluation import (
    AlarmConfig,
    AlarmsConfig,
    AlsConfig,
    Baseline,
    EvaluateConfig,
    RankedBaseline,
    SarConfig,
    TifuKnnConfig,
)
from halflife.config.loading import load
from halflife.config.scoring import DeliverConfig, DeliveredTable, KeepConfig, ScoreConfig
from halflife.config.section import Section
from halflife.config.sequences import MissingConfig, SessionizeConfig, StrengthConfig
from halflife.config.sources import (
    COMBINED_LOG,
    COMBINED_LOG_TIME,
    EPOCH_UNITS,
    CatalogueConfig,
    ColumnsConfig,
    EventTypeConfig,
    FilesConfig,
    PseudonymsConfig,
    SourceConfig,
)
from halflife.config.training import AugmentationConfig, LossName, ModelConfig, TrainConfig
from halflife.config.whole import Config

__all__ = [
    "COMBINED_LOG",
    "COMBINED_LOG_TIME",
    "EPOCH_UNITS",
    "AlarmConfig",
    "AlarmsConfig",
    "AlsConfig",
    "AugmentationConfig",
    "Baseline",
    "CatalogueConfig",
    "ClusterConfig",
    "ColumnsConfig",
    "Config",
    "DeliverConfig",
    "DeliveredTable",
    "EvaluateConfig",
    "EventTypeConfig",
    "ExecutorsConfig",
    "FilesConfig",
    "KeepConfig",
    "LossName",
    "MissingConfig",
    "ModelConfig",
    "PseudonymsConfig",
    "RankedBaseline",
    "RanksConfig",
    "SarConfig",
    "ScoreConfig",
    "Section",
    "SessionizeConfig",
    "SourceConfig",
    "StrengthConfig",
    "TifuKnnConfig",
    "TrainConfig",
    "load",
]
