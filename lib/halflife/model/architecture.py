"""The sizes of a network and the shapes that follow from them, without TensorFlow."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from halflife.model.features import EVENT_FEATURES, SEQUENCE_FEATURES

# Of an item in the jump, beside its learned traits: logit of its repeat propensity, how often it occurs, the size of
# its sessions and the silence before its returns.
ITEM_FEATURES: Final = 4
# Of a user in the stretch: see training.examples.pace.
PACE_FEATURES: Final = 4

# Bounds of every half-life that is learned.
SHORTEST_DAYS: Final = 15 / 1_440
LONGEST_DAYS: Final = 730.0

# Gates of a recurrent cell: what a unit's weights are repeated for.
GATES: Final = {"lstm": 4, "gru": 3}
HEADS: Final = 2
HEAD_SIZE: Final = 16

EncoderKind = Literal["lstm", "gru", "transformer"]
Shapes = dict[str, tuple[int, ...]]


class Architecture(BaseModel):
    """Every size and part that the weights' shapes follow from. `items` does not count the cold row behind the last.

    Without `attention` the encoder's last state is read out, without `attention_age` attention does not look at how
    old an event is, without `memory` nothing but affinity is left: the parts that an ablation takes away.
    With `stretch` a user has half-lives of their own.
    `features` and `vectors` are the names of items' content, with the buckets of all features and each vector's size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    items: PositiveInt
    event_types: PositiveInt
    categories: PositiveInt
    half_lives_days: tuple[PositiveFloat, ...]
    horizon_days: PositiveFloat
    sequence_length: PositiveInt
    vector_size: PositiveInt
    # Models published before the transformer say lstm_units.
    encoder_units: tuple[PositiveInt, ...] = Field(validation_alias=AliasChoices("encoder_units", "lstm_units"))
    jump_units: PositiveInt
    item_traits: PositiveInt
    encoder: EncoderKind = "lstm"
    attention: bool = True
    attention_age: bool = True
    memory: bool = True
    stretch: bool = False
    features: tuple[str, ...] = ()
    feature_buckets: PositiveInt = 1
    vectors: dict[str, PositiveInt] = {}

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
            **{f"content/{name}": shape for name, shape in self.tower_shapes().items()},
            "jump/hidden_kernel": (self.jump_inputs, self.jump_units),
            "jump/hidden_bias": (self.jump_units,),
            "jump/kernel": (self.jump_units, channels),
            "jump/bias": (channels,),
            **self._encoder_shapes(),
        }

    def tower_shapes(self) -> Shapes:
        """Shapes of one content tower: a row a category, a row a bucket, and a projection of the vectors."""
        shapes: Shapes = {"category": (self.categories, self.vector_size)}
        if self.features:
            shapes["features"] = (self.feature_buckets + 1, self.vector_size)
        if self.vectors:
            shapes["projection"] = (sum(self.vectors.values()), self.vector_size)
        return shapes

    def layers(self) -> list[tuple[int, int]]:
        """Inputs and units of each layer of the encoder's stack."""
        return list(pairwise((self.encoder_units[0], *self.encoder_units)))

    def _encoder_shapes(self) -> Shapes:
        channels, size, last = self.channels, self.vector_size, self.encoder_units[-1]
        shapes: Shapes = {
            "encoder/from_state": (channels, last, size),
            "encoder/from_items": (channels, size, size),
            "encoder/everyone": (channels, size),
            "encoder/project/kernel": (self.encoder_inputs, self.encoder_units[0]),
            "encoder/project/bias": (self.encoder_units[0],),
        }
        if self.attention:
            shapes |= {"encoder/content/kernel": (last, channels), "encoder/content/bias": (channels,)}
        if self.attention and self.attention_age:
            shapes["encoder/age_weight"] = (channels,)
        for place, (inputs, units) in enumerate(self.layers(), start=1):
            layer = _block_shapes(inputs, units) if self.encoder == "transformer" else self._cell_shapes(inputs, units)
            shapes |= {f"encoder/{self.encoder}_{place}/{name}": shape for name, shape in layer.items()}
        return shapes

    def _cell_shapes(self, inputs: int, units: int) -> Shapes:
        wide = GATES[self.encoder] * units
        return {
            f"{self.encoder}_cell/kernel": (inputs, wide),
            f"{self.encoder}_cell/recurrent_kernel": (units, wide),
            # cuDNN's GRU has a bias of its own inside the reset gate.
            f"{self.encoder}_cell/bias": (2, wide) if self.encoder == "gru" else (wide,),
        }


def _block_shapes(inputs: int, units: int) -> Shapes:
    return {
        "into_kernel": (inputs, units),
        "query_key_value": (3, HEADS, units, HEAD_SIZE),
        "out": (HEADS, HEAD_SIZE, units),
        "fading": (HEADS,),
        "hidden_kernel": (units, 2 * units),
        "hidden_bias": (2 * units,),
        "kernel": (2 * units, units),
        "bias": (units,),
    }
