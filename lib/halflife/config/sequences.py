"""How records become sessions, sequences and strengths."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from halflife.config.section import PositiveFloat, PositiveInt, Section


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
