"""The typed configuration: YAML by environment over a common base, checked before Spark starts.

`conf/local.yaml` names its base with `extends: base.yaml`; `--set key.path=value` goes over both. Unknown
keys are refused, so that a misspelt key fails in a second and not at 3 a.m. after an hour.
"""

from __future__ import annotations

import difflib
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from halflife.errors import ConfigError

PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ColumnsConfig(Section):
    """Which column of a source plays which part. Only user, item and time are needed."""

    user: str
    item: str
    time: str
    event_type: str | None = None
    event_id: str | None = None
    session_id: str | None = None
    dwell_seconds: str | None = None
    rating: str | None = None


class SourceConfig(Section):
    """One event log: Parquet, CSV or JSON lines, in a file, a folder or a glob.

    A path that holds `{date}` has one folder or file a UTC day, and a night reads only its own days. What such a
    file holds from `as_of` on is quarantined as time_after_as_of.
    """

    path: str
    format: Literal["parquet", "csv", "json"] = "parquet"
    columns: ColumnsConfig
    event_type: str | None = Field(default=None, description="the type of every row, where no column tells")
    delimiter: str = ","
    time_zone: str = Field(default="UTC", description="zone of times that carry none")
    required: bool = Field(default=True, description="whether a day without a file is an error")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no IANA time zone") from error
        return value

    @model_validator(mode="after")
    def _one_source_of_type(self) -> SourceConfig:
        if (self.event_type is None) == (self.columns.event_type is None):
            raise ValueError("give event_type (the same for every row) or columns.event_type, one of the two")
        return self


class EventTypeConfig(Section):
    """One kind of event: its signed weight in an event's strength."""

    weight: float


class CatalogueConfig(Section):
    """A known list of ids (members, assortment), so that ids without events are scored as well."""

    path: str
    id: str = Field(description="column of the id")
    title: str | None = None
    category: str | None = None


class SessionizeConfig(Section):
    gap_seconds: PositiveFloat = 1_800.0
    sequence_length: PositiveInt = 200
    event_time_floor: date = date(1990, 1, 1)
    max_dwell_seconds: PositiveFloat = 86_400.0
    max_quarantine_share: Share = 0.5
    allow_empty_night: bool = False


class ModelConfig(Section):
    kind: Literal["lstm", "exponential"] = "lstm"
    half_life_days: PositiveFloat = Field(default=90.0, description="of the exponential law")
    half_lives_days: tuple[PositiveFloat, ...] = Field(
        default=(1 / 24, 1.0, 7.0, 30.0, 180.0),
        min_length=1,
        description="of the decay channels, where training starts",
    )
    horizon_days: PositiveFloat = Field(default=7.0, description="a score says what happens within so many days")
    vector_size: PositiveInt = Field(default=32, description="of the item vectors and of each read-out")
    lstm_units: tuple[PositiveInt, ...] = Field(default=(64, 32), min_length=1)
    jump_units: PositiveInt = 32
    item_traits: PositiveInt = Field(default=8, description="learned numbers of an item that shape its jumps")

    @field_validator("half_lives_days")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("half-lives must ascend")
        return value


class TrainConfig(Section):
    ranks: PositiveInt = Field(default=2, description="Horovod processes, each on a core (a Spark task)")
    seed: Annotated[int, Field(ge=0)] = 7
    history_length: PositiveInt = Field(default=2_048, description="a user's last events that training sees")
    validation_days: PositiveInt = Field(default=28, description="held out before the cut, to choose the best epoch")
    epochs: PositiveInt = 8
    patience: PositiveInt = Field(default=2, description="epochs without a better validation loss before it ends")
    catch_up_epochs: Annotated[int, Field(ge=0)] = Field(
        default=1, description="epochs that follow on all history, validation days included"
    )
    users_per_batch: PositiveInt = Field(default=32, description="of one rank")
    cuts_per_user: PositiveInt = Field(default=4, description="examples of a user an epoch, at random times")
    recency_days: PositiveFloat = Field(default=90.0, description="examples are drawn half as often so long ago")
    learning_rate: PositiveFloat = 6e-3
    warm_up_steps: PositiveInt = 20
    clip_norm: PositiveFloat = 10.0
    l2: Annotated[float, Field(ge=0)] = 1e-4
    negatives: PositiveInt = Field(default=24_576, description="items a step sums over; a larger catalogue is sampled")
    shuffle_rows: PositiveInt = Field(default=512, description="users that are shuffled at a time")
    validation_users: PositiveInt = Field(default=4_096, description="at most so many of all ranks")
    start_timeout_seconds: PositiveInt = Field(default=180, description="to get all ranks running")


class ScoreConfig(Section):
    users_per_block: PositiveInt = 128
    rows_per_file: PositiveInt = 32_000_000
    top_n: PositiveInt = 20
    revival_retained_share: Share = 0.25
    revival_silence_days: PositiveFloat = 30.0


class EvaluateConfig(Section):
    event_types: tuple[str, ...] = Field(default=("purchase",), min_length=1, description="what a basket holds")
    min_users_per_item: PositiveInt = 5
    cutoffs: tuple[PositiveInt, ...] = Field(default=(10,), min_length=1, description="tuned by the first")
    half_lives_days: tuple[PositiveFloat, ...] = Field(
        default=(7.0, 30.0, 60.0, 90.0, 120.0, 180.0),
        min_length=1,
        description="grid of the single half-life, tuned on the validation days only",
    )
    reported_half_lives_days: tuple[PositiveFloat, ...] = Field(
        default=(90.0,), description="shown beside the tuned half-life, whatever the tuning says"
    )
    validation_days: PositiveInt = 28
    users_per_block: PositiveInt = 64
    calibration_bins: PositiveInt = 10


class Config(Section):
    """The whole configuration of every job; each job reads its own part."""

    warehouse: str
    sources: dict[str, SourceConfig] = Field(min_length=1)
    event_types: dict[str, EventTypeConfig] = Field(min_length=1)
    users: CatalogueConfig | None = None
    items: CatalogueConfig | None = None
    sessionize: SessionizeConfig = SessionizeConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _source_types_are_known(self) -> Config:
        for name, source in self.sources.items():
            if source.event_type is not None and source.event_type not in self.event_types:
                known = ", ".join(self.event_types)
                raise ValueError(f"sources.{name}.event_type: {source.event_type!r} is none of {known}")
        return self


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, the files it extends and `key.path=value` overrides into a checked `Config`.

    Raises ConfigError that names the file, the key's path and what is allowed.
    """
    tree = _read_tree(path, seen=())
    for override in overrides or []:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from error


def _read_tree(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: extends itself")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top, found {type(tree).__name__}")
    base = tree.pop("extends", None)
    if base is None:
        return tree
    return _over(_read_tree(path.parent / str(base), (*seen, path.resolve())), tree)


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`top` laid over `base`, mapping by mapping; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in top.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _over(merged[key], value)
        else:
            merged[key] = value
    return merged


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not readable as YAML") from error
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {parent} holds a value, not a section")
        tree = child
    tree[leaf] = value


def _explain(path: Path, error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        if problem["type"] == "extra_forbidden":
            problems.append(f"{where}: unknown key{_suggest(problem['loc'])}")
        else:
            given = problem.get("input")
            shown = f", got {given!r}" if isinstance(given, str | int | float | bool) else ""
            problems.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}{shown}")
    return f"{path}: " + "; ".join(problems)


def _suggest(location: tuple[int | str, ...]) -> str:
    """What is allowed beside an unknown key, nearest first."""
    section: Any = Config
    for part in location[:-1]:
        section = _child(section, str(part))
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return ""
    allowed = sorted(section.model_fields)
    near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{hint}; allowed here: {', '.join(allowed)}"


def _child(section: Any, name: str) -> Any:
    """Type of the key `name` of a section; of the values where the section is a mapping."""
    if isinstance(section, type) and issubclass(section, BaseModel):
        field = section.model_fields.get(name)
        return None if field is None else _unwrapped(field.annotation)
    arguments = get_args(section)
    return arguments[-1] if arguments else None


def _unwrapped(annotation: Any) -> Any:
    """X of `X | None`."""
    inner = [argument for argument in get_args(annotation) if argument is not type(None)]
    return inner[0] if len(inner) == 1 else annotation
