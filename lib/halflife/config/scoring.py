"""What is scored, kept and delivered."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from halflife.config.section import PositiveFloat, PositiveInt, Section, Share


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


class KeepConfig(Section):
    """How long what a warehouse no longer needs is kept; `halflife gc` removes it then."""

    replaced_days: Annotated[int, Field(ge=0)] = Field(
        default=7, description="runs that another has replaced, which `halflife rollback` can bring back till then"
    )


DeliveredTable = Literal[
    "scores", "recommendations", "interest_by_category", "category_trend", "memory", "user_states", "events",
    "quarantine", "intake", "sessions", "users", "items", "sequences", "active_sequences", "metrics"
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
