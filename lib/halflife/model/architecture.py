"""The sizes of a network and the shapes that follow from them, without TensorFlow."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from halflife.model.features import EVENT_FEATURES, SEQUENCE_FEATURES

# Of an item in the jump, beside its learned traits: logit of its repeat propensity, and how often it occurs.
ITEM_FEATURES: Final = 2

Shapes = dict[str, tuple[int, ...]]


class Architecture(BaseModel):
    """Every size that the weights' shapes follow from. `items` does not count the cold row behind the last item."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: PositiveInt
    event_types: PositiveInt
    categories: PositiveInt
    half_lives_days: tuple[PositiveFloat, ...]
    horizon_days: PositiveFloat
    sequence_length: PositiveInt
    vector_size: PositiveInt
    lstm_units: tuple[PositiveInt, ...]
    jump_units: PositiveInt
    item_traits: PositiveInt

    @property
    def channels(self) -> int:
        """Number K of decay channels."""
        return len(self.half_lives_days)

    @property
    def jump_inputs(self) -> int:
        """Width of what the jump sees of an event and its item."""
        return EVENT_FEATURES + self.event_types + ITEM_FEATURES + self.item_traits

    @property
    def encoder_inputs(self) -> int:
        """Width of what the encoder sees of an event: item, features, type and strength."""
        return self.vector_size + SEQUENCE_FEATURES + self.event_types + 1

    def shapes_for_scoring(self) -> Shapes:
        """Shape of every array of a published model, by name."""
        rows, channels, size = self.items + 1, self.channels, self.vector_size
        return {
            "half_lives_days": (channels,),
            "items/bias": (rows,),
            "items/vectors": (rows, size),
            "items/inputs": (rows, size),
            "items/log_amplitude": (rows,),
            "items/jump_inputs": (rows, ITEM_FEATURES + self.item_traits),
            "jump/hidden_kernel": (self.jump_inputs, self.jump_units),
            "jump/hidden_bias": (self.jump_units,),
            "jump/kernel": (self.jump_units, channels),
            "jump/bias": (channels,),
            **self._encoder_shapes(),
        }

    def _encoder_shapes(self) -> Shapes:
        channels, size, last = self.channels, self.vector_size, self.lstm_units[-1]
        shapes: Shapes = {
            "encoder/age_weight": (channels,),
            "encoder/from_state": (channels, last, size),
            "encoder/from_items": (channels, size, size),
            "encoder/everyone": (channels, size),
            "encoder/project/kernel": (self.encoder_inputs, self.lstm_units[0]),
            "encoder/project/bias": (self.lstm_units[0],),
            "encoder/content/kernel": (last, channels),
            "encoder/content/bias": (channels,),
        }
        for place, (inputs, units) in enumerate(pairwise((self.lstm_units[0], *self.lstm_units)), start=1):
            cell = f"encoder/lstm_{place}/lstm_cell"
            shapes[f"{cell}/kernel"] = (inputs, 4 * units)
            shapes[f"{cell}/recurrent_kernel"] = (units, 4 * units)
            shapes[f"{cell}/bias"] = (4 * units,)
        return shapes
