"""What all sections of the configuration are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

PositiveFloat = Annotated[float, Field(gt=0)]


PositiveInt = Annotated[int, Field(gt=0)]


Share = Annotated[float, Field(ge=0, le=1)]


# YAML reads a plain `off` as false.
OffIsAWord = BeforeValidator(lambda value: "off" if value is False else value)


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
