"""A published model: saved without pickle, checked before use, and read by the nightly job.

manifest.json   what it is, and a sha256 of each file
weights.npz     the arrays
items.parquet   item_index, item_id and category of the items that the arrays stand for
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halflife.errors import ModelError
from halflife.model import manifest as manifests
from halflife.model.architecture import Architecture, Shapes
from halflife.model.content import category_names, content_of
from halflife.model.features import EncoderInput, encoder_input, event_features
from halflife.model.forward import Forward
from halflife.model.lanes import times
from halflife.model.manifest import RETRAIN, Manifest, catalogue_digest
from halflife.model.stretching import stretched

Matrix = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]

WEIGHTS: Final = "weights.npz"
ITEMS: Final = "items.parquet"
JUMP_COLUMNS: Final = 1_024  # events that go through the jump's network at once
# Keeps exp finite whatever a damaged night may hold.
LARGEST_LOG_RATE: Final = 10.0


@dataclass(frozen=True)
class ItemSide:
    """The items' part of the affinity: bias (I,), log of a rate per day, and vectors (I, d)."""

    bias: Matrix
    vectors: Matrix


class Model:
    """A loaded model, in NumPy alone: scoring needs no TensorFlow."""

    def __init__(self, manifest: Manifest, weights: Mapping[str, Matrix], categories: Sequence[str]) -> None:
        self.manifest = manifest
        self.kind = manifest.kind
        self.version = manifest.version
        self.half_lives_days = np.asarray(manifest.half_lives_days, dtype=np.float64)
        self.horizon_days = manifest.horizon_days
        self.sequence_length = manifest.sequence_length
        self.vector_size = manifest.vector_size
        self.event_types = manifest.event_types
        self.items = manifest.items
        self._weights = weights
        self._categories = categories
        self._forward = None if manifest.architecture is None else Forward(manifest.architecture, weights)

    def item_side(self, item_count: int, items: pd.DataFrame | None = None) -> ItemSide:
        """Bias and vectors of `item_count` items; those added after training get the bias of an item without events.

        Their vectors are zero, or what `items` (columns of the items table; rows of other items count nothing) tells of
        their content. It enters here only: the states of users never depend on tonight's catalogue.
        """
        if self.kind == "exponential":
            bias = np.full(item_count, -np.inf, dtype=np.float32)
            return ItemSide(bias, np.zeros((item_count, self.vector_size), dtype=np.float32))
        rows = self._rows(np.arange(item_count))
        vectors = self._weights["items/vectors"][rows]
        vectors[self.items :] = 0
        if items is not None:
            new = items[(items["item_index"] >= self.items) & (items["item_index"] < item_count)]
            vectors[new["item_index"]] = self._vectors_of_content(new)
        return ItemSide(self._weights["items/bias"][rows], vectors)

    def _vectors_of_content(self, items: pd.DataFrame) -> Matrix:
        architecture, w = self._architecture(), self._weights
        names = architecture.features, architecture.feature_buckets, architecture.vectors
        content = content_of(items, self._categories, *names)
        vectors: Matrix = w["content/category"][content.category]
        if architecture.features:
            vectors += w["content/features"][content.buckets].sum(axis=1)
        if architecture.vectors:
            vectors += content.vectors @ w["content/projection"]
        return vectors * content.known[:, None]

    def jumps(self, events: Arrays) -> NDArray[np.float64]:
        """What each event adds to its pair's memory, K rates per day >= 0: (n,) columns give (n, K).

        Columns as in the events table: item_index, type_index, strength (its sign is left to the caller),
        gap_seconds, revisit_gap_seconds (NaN where there is none), revisit_count, session_position; and user_index
        where the model has a stretch.
        """
        strength = np.abs(np.asarray(events["strength"], dtype=np.float64))[:, None]
        if self.kind == "exponential":
            return strength
        if not self._architecture().memory:
            return np.zeros((len(strength), len(self.half_lives_days)))
        rows, types = self._rows(events["item_index"]), self._one_hot(events["type_index"])
        features = event_features(
            events["gap_seconds"], events["revisit_gap_seconds"], events["revisit_count"], events["session_position"]
        )
        w = self._weights
        inputs = np.concatenate([features, types, w["items/jump_inputs"][rows]], axis=1)
        rates = np.minimum(self._log_rates(inputs) + w["items/log_amplitude"][rows][:, None], LARGEST_LOG_RATE)
        jumps: NDArray[np.float64] = strength * np.exp(rates.astype(np.float64))
        if self._architecture().stretch:
            return stretched(jumps, self._stretch(events["user_index"]), self.half_lives_days)
        return jumps

    @property
    def user_stretch(self) -> Matrix | None:
        """Stretch of the users 0..n-1 as of the training: log2 of how much longer theirs lasts; None without any."""
        return self._weights.get("users/stretch")

    def _stretch(self, users: NDArray[Any]) -> Matrix:
        """Each user's stretch as of the training: 0 for users who came later, (n,)."""
        known = np.append(self._weights["users/stretch"], np.float32(0))
        stretch: Matrix = known[np.minimum(users, self.manifest.users)]
        return stretch

    def _log_rates(self, inputs: Matrix) -> Matrix:
        """The jump's network, (n, inputs) to (n, K).

        An event's jump must not depend on the others of its batch, or N nights would not give the bits of one rebuild.
        """
        w, count = self._weights, len(inputs)
        rates = np.empty((count, len(self.half_lives_days)), dtype=np.float32)
        block = np.zeros((inputs.shape[1], JUMP_COLUMNS), dtype=np.float32)
        for begin in range(0, count, JUMP_COLUMNS):
            part = inputs[begin : begin + JUMP_COLUMNS]
            block[:, : len(part)] = part.T
            hidden = np.tanh(times(w["jump/hidden_kernel"].T, block) + w["jump/hidden_bias"][:, None])
            found = times(w["jump/kernel"].T, hidden) + w["jump/bias"][:, None]
            rates[begin : begin + len(part)] = found[:, : len(part)].T
        return rates

    def encode(self, sequences: Arrays) -> Matrix:
        """Read-outs of users from their `sequences`, (B, L) columns and length (B,): (B, K, d).

        A user's read-out does not depend on who else is encoded, to the last bit.
        """
        if self._forward is None:
            shape = (len(sequences["length"]), len(self.half_lives_days), self.vector_size)
            return np.zeros(shape, dtype=np.float32)
        return self._forward.readouts(self._encoder_input(sequences))

    def attention(self, sequences: Arrays) -> Matrix:
        """How much each of a user's last events counts in the read-out of each channel, (B, L, K): sums to 1 over L.

        Zero everywhere where nothing is read out: the exponential law, users without events.
        """
        if self._forward is None:
            return np.zeros((*np.shape(sequences["item_index"]), len(self.half_lives_days)), dtype=np.float32)
        return self._forward.attention(self._encoder_input(sequences))

    def _encoder_input(self, sequences: Arrays) -> EncoderInput:
        self._check_length(sequences)
        rows = encoder_input(sequences)
        self._check_types(rows.type)
        return rows._replace(item=self._rows(rows.item).astype(np.int32))

    def _architecture(self) -> Architecture:
        assert self.manifest.architecture is not None
        return self.manifest.architecture

    def _rows(self, items: NDArray[Any]) -> NDArray[Any]:
        """Row of each item in the item arrays: the last, cold one for items not known in training."""
        return np.minimum(items, self.items)

    def _one_hot(self, types: NDArray[Any]) -> Matrix:
        self._check_types(types)
        one_hot: Matrix = np.eye(len(self.event_types), dtype=np.float32)[types]
        return one_hot

    def _check_types(self, types: NDArray[Any]) -> None:
        known = len(self.event_types)
        if types.size and (types.min() < 0 or types.max() >= known):
            raise ModelError(f"model {self.version} knows {known} event types and met another; {RETRAIN}")

    def _check_length(self, sequences: Arrays) -> None:
        length = sequences["item_index"].shape[1] if len(sequences["length"]) else self.sequence_length
        if length != self.sequence_length:
            raise ModelError(
                f"sequences hold {length} events, model {self.version} reads {self.sequence_length}: "
                "set sessionize.sequence_length to that, or train again"
            )


def save(
    directory: Path,
    *,
    architecture: Architecture,
    weights: Mapping[str, Matrix],
    items: pd.DataFrame,
    event_types: Sequence[str],
    as_of_seconds: float,
    metrics: Mapping[str, float],
    config: Mapping[str, Any],
    stretch: Matrix | None = None,
) -> Manifest:
    """Write a trained model into a new `directory`. `items` has item_index 0..n-1 in order, item_id and category.

    `stretch` is that of the users 0..n-1, where the architecture has one.
    """
    users = {} if stretch is None else {"users/stretch": stretch}
    return _write(
        directory,
        {**weights, **users},
        items,
        users=0 if stretch is None else len(stretch),
        kind="neural",
        half_lives_days=tuple(float(days) for days in weights["half_lives_days"]),
        horizon_days=architecture.horizon_days,
        sequence_length=architecture.sequence_length,
        vector_size=architecture.vector_size,
        architecture=architecture,
        event_types=tuple(event_types),
        as_of=_iso(as_of_seconds),
        metrics=dict(metrics),
        config=dict(config),
    )


def exponential(
    directory: Path,
    *,
    half_life_days: float,
    horizon_days: float,
    sequence_length: int,
    items: pd.DataFrame,
    event_types: Sequence[str],
    as_of_seconds: float,
    config: Mapping[str, Any],
) -> Model:
    """Publish the classical law I(t) = I(0) 2^(-t/h): one half-life, a jump of |strength|, no affinity."""
    _write(
        directory,
        {"half_lives_days": np.asarray([half_life_days], dtype=np.float32)},
        items,
        kind="exponential",
        half_lives_days=(half_life_days,),
        horizon_days=horizon_days,
        sequence_length=sequence_length,
        vector_size=1,
        architecture=None,
        event_types=tuple(event_types),
        as_of=_iso(as_of_seconds),
        metrics={},
        config=dict(config),
    )
    return load(directory)


def law(half_life_days: float, horizon_days: float, version: str) -> Model:
    """The classical law in memory alone: of a night that was scored by it, without a published model."""
    manifest = Manifest(
        kind="exponential",
        version=version,
        half_lives_days=(half_life_days,),
        horizon_days=horizon_days,
        sequence_length=0,
        vector_size=1,
        event_types=(),
        items=0,
        catalogue_digest=catalogue_digest([]),
        as_of=_iso(0.0),
        architecture=None,
        metrics={},
        config={},
        sha256={},
    )
    return Model(manifest, {}, ())


def load(directory: Path) -> Model:
    """Read a published model; digests, then names, shapes and values are checked before anything is used.

    Raises ModelError that names the file and the remedy.
    """
    manifest = manifests.read(directory)
    path = directory / WEIGHTS
    if WEIGHTS not in manifest.sha256 or ITEMS not in manifest.sha256:
        raise ModelError(f"{directory / manifests.NAME}: names no {WEIGHTS} or no {ITEMS}; {RETRAIN}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            weights = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: not readable as arrays ({error}); {RETRAIN}") from error
    _check_arrays(path, weights, _expected_shapes(manifest))
    return Model(manifest, weights, category_names(_checked_items(directory / ITEMS, manifest)))


def _write(directory: Path, weights: Mapping[str, Matrix], items: pd.DataFrame, **fields: Any) -> Manifest:
    directory.mkdir(parents=True, exist_ok=False)
    np.savez(directory / WEIGHTS, **weights)
    items[["item_index", "item_id", "category"]].to_parquet(directory / ITEMS, index=False)
    digests = {name: manifests.digest_of(directory / name) for name in (WEIGHTS, ITEMS)}
    version = f"{fields['as_of'][:10].replace('-', '')}-{digests[WEIGHTS][:8]}"
    manifest = Manifest(
        version=version,
        items=len(items),
        catalogue_digest=catalogue_digest(items["item_id"]),
        sha256=digests,
        **fields,
    )
    manifests.write(directory, manifest)
    return manifest


def _expected_shapes(manifest: Manifest) -> Shapes:
    if manifest.architecture is None:
        return {"half_lives_days": (1,)}
    users: Shapes = {"users/stretch": (manifest.users,)} if manifest.architecture.stretch else {}
    return {**manifest.architecture.shapes_for_scoring(), **users}


def _check_arrays(path: Path, weights: Mapping[str, NDArray[Any]], expected: Shapes) -> None:
    if set(weights) != set(expected):
        names = ", ".join(sorted(set(weights) ^ set(expected)))
        raise ModelError(f"{path}: missing or unknown arrays: {names}; {RETRAIN}")
    for name, shape in expected.items():
        array = weights[name]
        if array.shape != shape or array.dtype != np.float32:
            found = f"{array.dtype}{array.shape}"
            raise ModelError(f"{path}: {name} is {found}, expected float32{shape}; {RETRAIN}")
        if not np.isfinite(array).all():
            raise ModelError(f"{path}: {name} holds values that are not finite; {RETRAIN}")


def _checked_items(path: Path, manifest: Manifest) -> pd.DataFrame:
    items = pd.read_parquet(path)
    in_order = np.array_equal(items["item_index"], np.arange(manifest.items))
    if not in_order or catalogue_digest(items["item_id"]) != manifest.catalogue_digest:
        raise ModelError(f"{path}: not the catalogue that the manifest names; {RETRAIN}")
    return items


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
