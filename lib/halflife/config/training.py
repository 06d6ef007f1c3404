"""The model and its training."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from halflife.config.section import OffIsAWord, PositiveFloat, PositiveInt, Section, Share


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
        default="float32",
        description="mixed_float16: products in half precision on a GPU; half its memory, faster from 256 users a step",
    )
    compression: Literal["none", "fp16"] = Field(default="none", description="of gradients between ranks")
    shuffle_rows: PositiveInt = Field(default=512, description="users of a shard that are shuffled at a time")
    validation_users: PositiveInt = Field(
        default=4_096, description="at most so many of all ranks; of fewer, several midnights each, up to as many"
    )
    start_timeout_seconds: PositiveInt = Field(default=180, description="to get all ranks running")
    stall_timeout_seconds: PositiveInt = Field(
        default=600, description="a rank that keeps the others waiting, or is silent, for longer ends the job"
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
