"""The typed configuration: YAML by environment over a common base, checked before Spark starts.

`conf/local.yaml` names its base with `extends: base.yaml`; `--set key.path=value` goes over both. Unknown
keys are refused, so that a misspelt key fails in a second and not at 3 a.m. after an hour.
"""

from __future__ import annotations

import difflib
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticSerializationError

from halflife.errors import ConfigError
from halflife.escapes import SECRET

PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# What reading YAML raises: its own errors, and those of Python's int and date, a dict or a match, for a bad scalar.
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError)
Memory = Annotated[str, Field(pattern=r"^[1-9][0-9]*[mg]$")]  # as Spark writes it: 512m, 8g
# YAML reads a plain `off` as false.
OffIsAWord = BeforeValidator(lambda value: "off" if value is False else value)


# Apache's and nginx's combined log format: the host, identity and user of the client; the time between brackets; the
# request's method, path and protocol (a request that is none, a scanner's garbage say, is all path); the status; the
# bytes sent; the referer and the user agent between quotes, which the `common` format lacks. - stands for nothing.
COMBINED_LOG = (
    r"^(?P<host>\S+) (?P<ident>\S+) (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r"\"(?:(?P<method>[A-Z]+) )?(?P<path>.*?)(?: (?P<protocol>HTTP/[\d.]+))?\" (?P<status>\d{3}) (?P<bytes>\d+|-)"
    r"(?: \"(?P<referer>.*?)\" \"(?P<agent>.*)\")?\s*$"
)
COMBINED_LOG_TIME = "dd/MMM/yyyy:HH:mm:ss Z"

# Microseconds in one unit of a time that is written as a number.
EPOCH_UNITS = {"epoch_seconds": 1_000_000, "epoch_millis": 1_000, "epoch_micros": 1}


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ColumnsConfig(Section):
    """Which column of a source plays which part. Only user, item and time are needed.

    A field inside a JSON object or a Parquet struct is written with dots: `product.sku`.
    """

    user: str
    item: str
    time: str
    event_type: str | None = None
    event_id: str | None = None
    session_id: str | None = None
    dwell_seconds: str | None = None
    rating: str | None = None
    quantity: str | None = None
    context: tuple[str, ...] = Field(default=(), description="further columns that events keep as text")

    @property
    def mapped(self) -> dict[str, str]:
        """The column of every part that has one, context left out."""
        parts: dict[str, str] = self.model_dump(exclude_none=True, exclude={"context"})
        return parts


class FilesConfig(Section):
    """Files of records: a file, a folder or a glob, plain or compressed (gz, bz2; Parquet by itself)."""

    path: str
    format: Literal["parquet", "csv", "json", "log"] = Field(default="parquet", description="json: an object a line")
    delimiter: str = Field(default=",", min_length=1, description='of CSV; write a tab as "\\t"')
    header: tuple[str, ...] = Field(default=(), description="names of a CSV file's columns, where no line of it does")
    multiline: bool = Field(default=False, description="whether a quoted CSV field may hold line ends: one task a file")
    encoding: str = Field(default="UTF-8", description="of CSV, JSON and log files")

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, value: str) -> str:
        value = value.replace("\\t", "\t")
        if not set(value).isdisjoint('"\r\n\x01'):
            raise ValueError("a quote or a line end cannot separate fields")
        return value

    @field_validator("encoding")
    @classmethod
    def _over_ascii(cls, value: str) -> str:
        """Lines, delimiters and quotes are found as ASCII bytes before anything is decoded."""
        ascii = '\n\r,;\t"{}[]:0123456789'
        try:
            plain = ascii.encode(value) == ascii.encode("ascii")
        except (LookupError, UnicodeError) as error:
            raise ValueError(f"{value!r} is no known encoding") from error
        if not plain:
            raise ValueError(f"{value} does not hold ASCII as it stands; convert the files to UTF-8")
        return value


class SourceConfig(FilesConfig):
    """One event log: Parquet, CSV, JSON lines or lines of text.

    A path that holds `{date}` has one folder or file a UTC day, and a night reads only its own days. What such a file
    holds from the end of its day on is quarantined as time_after_as_of, what is older than late_days as too_late. A
    path without `{date}` is read whole every night; what was accepted before is a duplicate then.
    """

    columns: ColumnsConfig
    event_type: str | None = Field(default=None, description="the type of every row, where no column tells")
    type_patterns: dict[str, str] = Field(
        default={}, description="event types by a regular expression over columns.event_type; the first that is found"
    )
    pattern: str | None = Field(
        default=None, description="of format log: a regular expression with named groups; default: combined log format"
    )
    time_format: str = Field(
        default="iso",
        description="iso, epoch_seconds, epoch_millis, epoch_micros, or a pattern such as dd/MM/yyyy HH:mm",
    )
    time_zone: str = Field(default="UTC", description="zone of times that carry none")
    rating_scale: tuple[float, float] = (1.0, 5.0)
    duplicates: Literal["event_id", "key", "off"] | None = Field(
        default=None,
        description="what makes two records one event: the log's event id (the default where it has one), all key "
        "columns (the default where it has none), or nothing: repeats are real",
    )
    required: bool = Field(default=True, description="whether a day without a file is an error")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no IANA time zone") from error
        return value

    @field_validator("time_format")
    @classmethod
    def _date_pattern(cls, value: str) -> str:
        if "%" in value:
            raise ValueError("write the pattern in letters, dd/MM/yyyy HH:mm say, not with %")
        if value.startswith(("iso", "epoch")) and value not in EPOCH_UNITS and value != "iso":
            raise ValueError(f"none of iso, {', '.join(EPOCH_UNITS)} or a pattern such as dd/MM/yyyy HH:mm")
        return value

    @field_validator("rating_scale")
    @classmethod
    def _scale_ascends(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError("write the lowest rating first, then the highest")
        return value

    @model_validator(mode="after")
    def _one_source_of_type(self) -> SourceConfig:
        if (self.event_type is None) == (self.columns.event_type is None):
            raise ValueError("give event_type (the same for every row) or columns.event_type, one of the two")
        if self.type_patterns and self.columns.event_type is None:
            raise ValueError("type_patterns needs columns.event_type, the column to look at")
        for kind, pattern in self.type_patterns.items():
            _compiled(pattern, f"type_patterns.{kind}")
        return self

    @model_validator(mode="after")
    def _ids_to_go_by(self) -> SourceConfig:
        if self.duplicates == "event_id" and self.columns.event_id is None:
            raise ValueError("duplicates: event_id needs columns.event_id")
        return self

    @model_validator(mode="after")
    def _groups_of_a_log(self) -> SourceConfig:
        if self.format != "log":
            if self.pattern is not None:
                raise ValueError("pattern needs format: log")
            return self
        groups = _compiled(self.line_pattern, "pattern").groupindex
        for column in (*self.columns.mapped.values(), *self.columns.context):
            if column not in groups:
                raise ValueError(f"pattern has no group {column!r}; its groups are {', '.join(groups)}")
        return self

    @property
    def dated(self) -> bool:
        """Whether the path says of which day a file is."""
        return "{date}" in self.path

    @property
    def same_event(self) -> Literal["event_id", "key", "off"]:
        """What makes two records one event."""
        return self.duplicates or ("key" if self.columns.event_id is None else "event_id")

    @property
    def line_pattern(self) -> str:
        """The regular expression of a log's lines, its groups named as Python does: (?P<name>...)."""
        return re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", self.pattern or COMBINED_LOG)

    @property
    def time_pattern(self) -> str:
        """How times are written: `time_format`, or that of the combined log format where the lines are in it."""
        combined = self.format == "log" and self.pattern is None and self.time_format == "iso"
        return COMBINED_LOG_TIME if combined else self.time_format


def _compiled(pattern: str, key: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{key}: no regular expression: {error}") from error


class EventTypeConfig(Section):
    """One kind of event: its signed weight in an event's strength."""

    weight: float


class CatalogueConfig(FilesConfig):
    """A known list of ids (members, assortment), so that ids without events are scored as well; and what is known of
    each: `features` as text, `vectors` as lists of numbers of one length (in CSV written as [0.1, 0.2])."""

    id: str = Field(description="column of the id")
    title: str | None = None
    category: str | None = None
    features: tuple[str, ...] = Field(default=(), description="further columns that are kept as text: brand, say")
    vectors: tuple[str, ...] = Field(default=(), description="columns of embeddings computed elsewhere")

    @field_validator("format")
    @classmethod
    def _no_log(cls, value: str) -> str:
        if value == "log":
            raise ValueError("a catalogue is parquet, csv or json")
        return value


class MissingConfig(Section):
    """What to do with rows of a source that has the column, but not in this row."""

    strategy: Literal["leave", "drop", "mean", "median", "model"] = Field(
        default="leave",
        description="drop: quarantine the row; mean, median: of the same day's rows; model: a regression on them",
    )
    by: Literal["all", "event_type", "item"] = Field(default="event_type", description="groups of mean and median")


class SessionizeConfig(Section):
    gap_seconds: PositiveFloat = Field(default=1_800.0, description="a larger gap starts a new session")
    max_session_seconds: PositiveFloat = Field(default=43_200.0, description="a session never spans more")
    sequence_length: PositiveInt = 200
    late_days: Annotated[int, Field(ge=1, le=366)] = Field(
        default=3, description="how old an event may be at the end of the day whose file brings it"
    )
    event_time_floor: date = date(1990, 1, 1)
    future_tolerance_seconds: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="how far a clock may run ahead of the end of its file's day"
    )
    max_dwell_seconds: PositiveFloat = 86_400.0
    max_id_length: PositiveInt = 1_024
    default_event_type: str | None = Field(default=None, description="what an unknown type becomes; null: a reject")
    max_events_per_minute: PositiveInt | None = Field(default=None, description="of one user; more look like a bot")
    max_events_per_day: PositiveInt | None = Field(default=None, description="of one user; more look like a bot")
    missing_dwell: MissingConfig = MissingConfig()
    missing_rating: MissingConfig = MissingConfig()
    allow_empty_night: bool = False
    users_per_file: PositiveInt = Field(default=4_096, description="of sequences")


class StrengthConfig(Section):
    """How much an event counts: its type's weight times factors of dwell, rating and quantity, each 1 where missing."""

    dwell_reference_seconds: PositiveFloat = Field(default=60.0, description="the dwell whose factor is 1")
    dwell_cap_seconds: PositiveFloat = Field(default=3_600.0, description="a longer dwell counts as this one")
    rating_factors: tuple[float, float] = Field(
        default=(0.0, 2.0), description="at the lowest and the highest rating; linear between them"
    )
    quantity_cap: PositiveFloat = Field(default=100.0, description="a larger quantity counts as this one")


class ModelConfig(Section):
    kind: Literal["neural", "exponential"] = "neural"
    half_life_days: PositiveFloat = Field(default=90.0, description="of the exponential law")
    fit_half_life: bool = Field(default=False, description="exponential: whether training fits it to the log instead")
    half_lives_days: tuple[PositiveFloat, ...] = Field(
        default=(1 / 24, 1.0, 7.0, 30.0, 180.0),
        min_length=1,
        description="of the decay channels, where training starts",
    )
    horizon_days: PositiveFloat = Field(default=7.0, description="a score says what happens within so many days")
    vector_size: PositiveInt = Field(default=32, description="of the item vectors and of each read-out")
    encoder: Literal["lstm", "gru", "transformer"] = "lstm"
    encoder_units: tuple[PositiveInt, ...] = Field(
        default=(64, 32),
        min_length=1,
        validation_alias=AliasChoices("encoder_units", "lstm_units"),  # its name when there was no other encoder
        description="of the encoder's layers",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="share of the inputs of each of the encoder's layers that a training step leaves out"
    )
    attention: bool = Field(default=True, description="false: the encoder's last state is read out")
    attention_age: bool = Field(default=True, description="whether attention sees how old an event is")
    memory: bool = Field(default=True, description="false: affinity alone")
    stretch: bool = Field(default=False, description="whether a user's own pace shapes how long the user's events last")
    jump_units: PositiveInt = 32
    item_traits: PositiveInt = Field(default=8, description="learned numbers of an item that shape its jumps")
    feature_buckets: PositiveInt = Field(default=1_024, description="the values of all items' features hash into these")

    @field_validator("kind", mode="before")
    @classmethod
    def _former_name(cls, value: object) -> object:
        """`lstm` was the name of all neural models when there was no other encoder."""
        return "neural" if value == "lstm" else value

    @field_validator("half_lives_days")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("half-lives must ascend")
        return value


class AugmentationConfig(Section):
    """How training varies the past of an example; its targets stay what they were. Zero is off."""

    crop: Share = Field(default=0.0, description="share of the histories that are made to begin later")
    drop: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="share of the events that are left out")
    jitter_seconds: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="sessions are moved to at most so much later"
    )


LossName = Literal["point_process", "mse", "sampled_softmax"]


class TrainConfig(Section):
    # How a training is carried out, not what comes of it (but for the rounding of sums): changing these forgets no
    # checkpoint and publishes no night anew.
    OPERATIONAL: ClassVar[frozenset[str]] = frozenset(
        {
            "launcher",
            "hosts",
            "network_interface",
            "ranks",
            "start_timeout_seconds",
            "stall_timeout_seconds",
            "restarts",
            "checkpoint_steps",
            "tensorboard",
            "tensorboard_runs",
            "mlflow_uri",
        }
    )

    launcher: Literal["spark", "horovodrun"] = Field(
        default="spark", description="spark: ranks are Spark tasks; horovodrun: they are processes on `hosts`"
    )
    hosts: str = Field(
        default="localhost", min_length=1, description="of horovodrun, each with its ranks: gpu1:4,gpu2:4"
    )
    network_interface: str | None = Field(
        default=None,
        min_length=1,
        description="what Horovod listens on, of a private network; ranks on one machine need none: loopback",
    )
    ranks: PositiveInt = Field(default=2, description="Horovod processes, each on a core (a Spark task) or a GPU")
    shards: PositiveInt = Field(
        default=4, description="parts of the users that ranks share out; every batch takes its share of each"
    )
    seed: Annotated[int, Field(ge=0)] = 7
    history_length: PositiveInt = Field(default=2_048, description="a user's last events that training sees")
    validation_days: PositiveInt = Field(default=28, description="held out before the cut, to choose the best epoch")
    epochs: PositiveInt = 8
    # With 2 it ended before the learning rate had come down (Complete Journey: NDCG@10 .246 in place of .251).
    patience: PositiveInt = Field(
        default=4, description="epochs that foresee the held-out days no better before it ends"
    )
    catch_up_epochs: Annotated[int, Field(ge=0)] = Field(
        default=1, description="epochs that follow on all history, validation days included"
    )
    users_per_batch: PositiveInt = Field(default=64, description="of all ranks together")
    cuts_per_user: PositiveInt = Field(default=4, description="examples of a user an epoch, at random times")
    recency_days: PositiveFloat = Field(default=90.0, description="examples are drawn half as often so long ago")
    learning_rate: PositiveFloat = Field(default=6e-3, description="at 64 users a batch")
    learning_rate_scaling: Literal["sqrt", "linear", "none"] = Field(
        default="sqrt", description="how the learning rate follows users_per_batch; the root is Adam's rule"
    )
    warm_up_steps: PositiveInt = 20
    clip_norm: PositiveFloat = 10.0
    l2: Annotated[float, Field(ge=0)] = 1e-4
    loss: dict[LossName, PositiveFloat] = Field(
        default={"point_process": 1.0}, min_length=1, description="one name, or names with their weights in the sum"
    )
    augmentation: AugmentationConfig = AugmentationConfig()
    negatives: PositiveInt = Field(default=24_576, description="items a step sums over; a larger catalogue is sampled")
    precision: Literal["float32", "mixed_float16"] = Field(
        default="float32", description="mixed_float16: products in half precision, where there is a GPU"
    )
    compression: Literal["none", "fp16"] = Field(default="none", description="of gradients between ranks")
    shuffle_rows: PositiveInt = Field(default=512, description="users of a shard that are shuffled at a time")
    validation_users: PositiveInt = Field(default=4_096, description="at most so many of all ranks")
    start_timeout_seconds: PositiveInt = Field(default=180, description="to get all ranks running")
    stall_timeout_seconds: PositiveInt = Field(
        default=600, description="a rank that keeps the others waiting for longer ends the job"
    )
    restarts: Annotated[int, Field(ge=0, le=100)] = Field(
        default=0, description="how often a run begins again from its checkpoint when a rank has failed or died"
    )
    checkpoint_steps: PositiveInt = Field(default=200, description="steps between two checkpoints within an epoch")
    ranking_weight: Annotated[float, Field(ge=0)] = Field(
        default=2.0, description="of the order of the next session's items, beside the likelihood; 0 is off"
    )
    gate: Annotated[Literal["enforce", "warn", "off"], OffIsAWord] = Field(
        default="enforce",
        description="whether a model that is no better than the tuned half-life or the present model stays unpublished",
    )
    gate_half_lives_days: tuple[PositiveFloat, ...] = Field(
        default=(1.0, 2.0, 4.0, 7.0, 14.0, 30.0, 60.0, 90.0, 120.0, 180.0, 365.0),
        min_length=1,
        description="grid of the single half-life that the gate tunes before the validation days",
    )
    tensorboard: str | None = Field(
        default="tensorboard", description="folder of event files, in the warehouse's _training; null: none"
    )
    tensorboard_runs: PositiveInt = Field(default=10, description="event files of older runs are removed")
    mlflow_uri: str | None = Field(default=None, description="tracking server; needs the extra halflife[mlflow]")

    @field_validator("loss", mode="before")
    @classmethod
    def _one_loss(cls, value: object) -> object:
        return {value: 1.0} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _a_shard_for_each_rank(self) -> TrainConfig:
        if self.ranks > self.shards:
            raise ValueError(f"{self.ranks} ranks need as many shards, train.shards is {self.shards}")
        return self


class ScoreConfig(Section):
    output: Literal["all", "observed", "top_n"] = Field(
        default="all", description="which pairs are in `scores`: every one, those with memory, those recommended"
    )
    floor: Share = Field(default=0.0, description="pairs with a lower score are left out of `scores`, and counted")
    layout: Literal["rows", "arrays"] = Field(
        default="rows", description="one row a pair, or one a user with the scores of all items by item_index"
    )
    encoding: Literal["rounded", "float32", "uint8"] = Field(
        default="rounded", description="how exact the numbers in `scores` are: see halflife.scoring.precision"
    )
    rows_per_group: PositiveInt = Field(
        default=2_000_000, description="pairs that are scored and written at once; a reader of one user reads as many"
    )
    rows_per_file: PositiveInt = 32_000_000
    users_per_file: PositiveInt = Field(
        default=1_024,
        description="of memory and user_states: a night writes those with a user of new events",
    )
    top_n: PositiveInt = 20
    exclude_seen: bool = Field(default=False, description="recommend no item that the user had an event with")
    max_per_category: PositiveInt | None = Field(
        default=None, description="most items of one category in a user's recommendations; null: any number"
    )
    faded_below: PositiveFloat = Field(
        default=0.001, description="expected strength over the horizon below which a memory has faded"
    )
    interested_above: Share = Field(
        default=0.5, description="score in a category from which on `category_trend` counts a user"
    )
    revival_retained_share: Share = 0.25
    revival_silence_days: PositiveFloat = 30.0

    @model_validator(mode="after")
    def _arrays_hold_everything(self) -> ScoreConfig:
        if self.layout == "arrays" and (self.output != "all" or self.floor):
            raise ValueError("layout arrays has a place for every item: it needs output all and floor 0")
        return self


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


class KeepConfig(Section):
    """How long what a warehouse no longer needs is kept; `halflife gc` removes it then."""

    replaced_days: Annotated[int, Field(ge=0)] = Field(
        default=7, description="runs that another has replaced, which `halflife rollback` can bring back till then"
    )


DeliveredTable = Literal[
    "scores", "recommendations", "interest_by_category", "category_trend", "memory", "user_states", "events",
    "quarantine", "intake", "sessions", "users", "items", "sequences", "metrics"
]  # fmt: skip


class DeliverConfig(Section):
    """The lake that published nights are delivered to, as Delta tables.

    Keys and endpoints come from the environment alone: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the like.
    """

    to: str | None = Field(
        default=None,
        description="s3://bucket/prefix, hdfs://host/path, file:///path or a folder; a folder a table in it",
    )
    tables: tuple[DeliveredTable, ...] = Field(
        default=("scores", "recommendations", "interest_by_category", "category_trend"), min_length=1
    )
    keep_days: PositiveInt | None = Field(
        default=None, description="nights so many days older than the lake's newest leave it; null: none does"
    )
    replaced_days: PositiveInt = Field(
        default=7, description="how long files stay that a table's newest version lacks; `halflife vacuum` removes them"
    )

    @field_validator("to")
    @classmethod
    def _no_secrets(cls, value: str | None) -> str | None:
        if value is None or "://" not in value:
            return value
        in_azure = re.sub(
            r"^(?:abfs|wasb)s?://[^/:@]+@", "", value
        )  # the container's name stands where others' users do
        if not set(in_azure).isdisjoint("@?#"):
            raise ValueError("an address alone: keys and options come from the environment (AWS_ACCESS_KEY_ID ...)")
        return value


class PseudonymsConfig(Section):
    """User ids are replaced as they are read, by HMAC-SHA-256 with a key: no table holds one."""

    key_file: str = Field(
        min_length=1, description="file of the key, of 32 bytes or more, outside the warehouse; one key for ever"
    )


class ExecutorsConfig(Section):
    """The executors of the jobs that Spark gives more or fewer of them while they run."""

    cores: PositiveInt = Field(default=4, description="of an executor")
    cores_per_task: PositiveInt = Field(default=1, description="of them for each task; more leave a task more memory")
    memory: Memory = Field(default="8g", description="of an executor's JVM")
    python_memory: Memory = Field(default="8g", description="of an executor's Python workers: encoding, block products")
    at_least: Annotated[int, Field(ge=0)] = Field(default=1, description="executors kept while there is nothing to do")
    at_most: PositiveInt = Field(default=20, description="executors when there is much to do")

    @property
    def tasks(self) -> int:
        """How many tasks run at once where there are as many executors as may be."""
        return self.at_most * (self.cores // self.cores_per_task)

    @model_validator(mode="after")
    def _room_for_a_task(self) -> ExecutorsConfig:
        if self.cores_per_task > self.cores:
            raise ValueError(f"cores_per_task: {self.cores_per_task} are more than the {self.cores} of an executor")
        if self.at_least > self.at_most:
            raise ValueError(f"at_least: {self.at_least} executors are more than at_most: {self.at_most}")
        return self


class RanksConfig(Section):
    """The executors of a training: fixed, and all there before its first step."""

    ranks_per_executor: PositiveInt = 1
    cores_per_rank: PositiveInt = Field(default=1, description="a rank computes on one, its feed reads on another")
    gpus_per_rank: Annotated[int, Field(ge=0, le=1)] = 0
    memory: Memory = Field(default="4g", description="of an executor's JVM")
    python_memory: Memory = Field(default="8g", description="of an executor's ranks")


class ClusterConfig(Section):
    """Where scripts/submit --env cluster runs the jobs; without it they run on this machine."""

    master: str | None = Field(
        default=None,
        pattern=r"^(spark://[^\s/]+|yarn|k8s://\S+)$",
        description="spark://host:7077, yarn (HADOOP_CONF_DIR says where) or k8s://https://host:443",
    )
    driver_host: str | None = Field(
        default=None, min_length=1, description="name or address by which executors reach the machine that submits"
    )
    driver_memory: Memory = "8g"
    packages: str = Field(default="dist", min_length=1, description="folder of the files that scripts/package makes")
    python: str | None = Field(
        default=None,
        min_length=1,
        description="bin/python of the environment where every node has it unpacked, in an image or a shared folder; "
        "null: each executor fetches and unpacks the archive",
    )
    executors: ExecutorsConfig = ExecutorsConfig()
    jobs: dict[Literal["sessionize", "score", "evaluate"], ExecutorsConfig] = Field(
        default={}, description="executors of single jobs, in place of `executors`"
    )
    train: RanksConfig = RanksConfig()
    conf: dict[str, str] = Field(default={}, description="further Spark properties: a queue, an image, a namespace")

    @field_validator("conf", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: str(found).lower() if isinstance(found, bool) else str(found) for key, found in value.items()}

    @field_validator("conf", mode="after")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:  # every process list would show it
            if re.search(SECRET, key, re.IGNORECASE):
                raise ValueError(f"{key}: a secret does not belong here; give it by the environment (see the README)")
        return value


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


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, the files it extends and `key.path=value` overrides into a checked `Config`.

    Raises ConfigError that names the file, the key's path and what is allowed.
    """
    try:
        tree = _read_tree(path, seen=())
        for override in overrides or []:
            _apply(tree, override)
        loaded = Config.model_validate(tree)
        loaded.model_dump_json()  # as the manifest of every night has to hold it
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from error
    except PydanticSerializationError as error:
        raise ConfigError(f"{path}: holds what is no text: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply, or within itself") from error
    return loaded


def _read_tree(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    try:
        if path.resolve() in seen:
            raise ConfigError(f"{path}: extends itself")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except (OSError, *UNREADABLE) as error:
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
    except UNREADABLE as error:
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
