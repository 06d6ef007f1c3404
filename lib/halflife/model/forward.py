"""The encoder's forward pass in NumPy: what the nightly job runs, equal to Keras's to 1e-5.

A night needs no TensorFlow: importing it costs a worker more than encoding thousands of users, and one core of BLAS is
as fast as its compiled graph (`scripts/bench encode`).

Bits of a matrix product depend on its shape, and on the place within it. So every product here has a shape that a
user's own length decides, never the users beside it: a block has ROWS rows, filled up with empty ones, and as many
steps as the smallest of `steps_of` that holds the user; and users come last, as the columns of `lanes.times`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from halflife.decay import LN2
from halflife.model.architecture import HEAD_SIZE, Architecture
from halflife.model.features import EncoderInput, Matrix
from halflife.model.lanes import times

ROWS: Final = 64  # of one block: what a step touches stays in a core's own cache
SHORTEST: Final = 8
MASKED: Final = np.float32(-3e4)

Weights = Mapping[str, Matrix]


class Forward:
    """Read-outs and attention of users from their last events, by the arrays of a published model."""

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        self._architecture = architecture
        self._item_inputs = weights["items/inputs"]
        self._half_lives = weights["half_lives_days"]
        self._weights = {
            name.removeprefix("encoder/"): np.ascontiguousarray(array)
            for name, array in weights.items()
            if name.startswith("encoder/")
        }
        self._layers = [self._layer(place) for place in range(1, len(architecture.layers()) + 1)]

    def readouts(self, rows: EncoderInput) -> Matrix:
        """One attention read-out a channel: (B, L) columns give (B, K, d)."""
        found = np.empty((len(rows.length), *self._weights["everyone"].shape), dtype=np.float32)
        for users, steps in _blocks(rows.length, rows.item.shape[1]):
            inputs, states, weights = self._run(_padded(rows, users, steps))
            found[users] = self._read(inputs, states, weights)[: len(users)]
        return found

    def attention(self, rows: EncoderInput) -> Matrix:
        """The weight of each event in each channel's read-out, (B, L, K): sums to 1 over a user's events."""
        length = rows.item.shape[1]
        found = np.zeros((len(rows.length), length, len(self._half_lives)), dtype=np.float32)
        for users, steps in _blocks(rows.length, length):
            _, _, weights = self._run(_padded(rows, users, steps))
            found[users, :steps] = weights.transpose(2, 0, 1)[: len(users)]
        return found

    def _run(self, rows: EncoderInput) -> tuple[Matrix, Matrix, Matrix]:
        """Item inputs (L, d, B), states (L, h, B) and attention (L, K, B) of one block.

        Time comes first, and users last: then each gate of a step is one piece of memory.
        """
        inputs = self._item_inputs[rows.item.T].transpose(0, 2, 1)
        kinds = np.eye(self._architecture.event_types, dtype=np.float32)[rows.type.T].transpose(0, 2, 1)
        seen = [inputs, rows.features.transpose(1, 2, 0), kinds, rows.strength.T[:, None]]
        state = self._project(np.concatenate(seen, axis=1))
        for layer in self._layers:
            state = layer(state, rows.age_days)
        return inputs, state, self._attention(state, rows)

    def _project(self, seen: Matrix) -> Matrix:
        projected = times(self._weights["project/kernel"].T, seen)
        projected += self._weights["project/bias"][:, None]
        return projected

    def _attention(self, state: Matrix, rows: EncoderInput) -> Matrix:
        w = self._weights
        place = np.arange(len(state))[:, None, None]
        if not self._architecture.attention:  # the last event alone
            last = (place == rows.length - 1).astype(np.float32)
            return np.repeat(last, len(self._half_lives), axis=1)
        logits = times(w["content/kernel"].T, state) + w["content/bias"][:, None]
        if self._architecture.attention_age:
            fading = np.exp(w["age_weight"]) * np.float32(LN2) / self._half_lives
            logits -= rows.age_days.T[:, None] * fading[:, None]
        valid = place < rows.length
        weights = _softmax(np.where(valid, logits, MASKED), axis=0)
        return np.where(valid, weights, np.float32(0))

    def _read(self, inputs: Matrix, state: Matrix, weights: Matrix) -> Matrix:
        w = self._weights
        shares = _users_first(weights).transpose(0, 2, 1)  # (B, K, L)
        states, items = (
            np.ascontiguousarray((shares @ _users_first(part)).transpose(1, 2, 0))  # (K, h, B), (K, d, B)
            for part in (state, inputs)
        )
        found = times(w["from_state"].transpose(0, 2, 1), states) + times(w["from_items"].transpose(0, 2, 1), items)
        read: Matrix = found.transpose(2, 0, 1) + w["everyone"]
        return read

    def _layer(self, place: int) -> _Layer:
        kind = self._architecture.encoder
        prefix = f"{kind}_{place}/"
        weights = {
            name.removeprefix(prefix).removeprefix(f"{kind}_cell/"): array
            for name, array in self._weights.items()
            if name.startswith(prefix)
        }
        return _LAYERS[kind](weights)


class _Layer(Protocol):
    """One layer of the stack, from its arrays by their names."""

    def __init__(self, w: Weights) -> None: ...

    def __call__(self, state: Matrix, age_days: Matrix) -> Matrix:
        """States (L, inputs, B) and ages (B, L) give (L, units, B)."""
        ...


class _Lstm:
    """Keras's LSTM: gates input, forget, cell, output.

    A sigmoid is half a tanh of half its argument, and halving is exact: one tanh serves all four gates.
    """

    def __init__(self, w: Weights) -> None:
        self.units = w["recurrent_kernel"].shape[0]
        into, forget, cell, out = range(4)
        order = np.concatenate([np.arange(self.units) + gate * self.units for gate in (into, forget, out, cell)])
        half = np.repeat(np.array([0.5, 0.5, 0.5, 1.0], dtype=np.float32), self.units)
        self.kernel = np.ascontiguousarray((w["kernel"][:, order] * half).T)
        self.recurrent = np.ascontiguousarray((w["recurrent_kernel"][:, order] * half).T)
        self.bias = (w["bias"][order] * half)[:, None]

    def __call__(self, state: Matrix, age_days: Matrix) -> Matrix:
        given = times(self.kernel, state)
        given += self.bias
        steps, _, count = state.shape
        found = np.empty((steps, self.units, count), dtype=np.float32)
        hidden, cell = np.zeros((2, self.units, count), dtype=np.float32)
        gates = np.empty_like(given[0])
        into, forget, out, fresh = gates.reshape(4, self.units, count)
        sigmoids = gates[: 3 * self.units]
        for step in range(steps):
            times(self.recurrent, hidden, out=gates)
            gates += given[step]
            np.tanh(gates, out=gates)
            sigmoids += 1
            sigmoids *= np.float32(0.5)
            cell *= forget
            into *= fresh
            cell += into
            hidden = np.tanh(cell, out=found[step])
            hidden *= out
        return found


class _Gru:
    """Keras's GRU with the reset gate behind the product, as cuDNN has it: gates update, reset, candidate."""

    def __init__(self, w: Weights) -> None:
        self.units = w["recurrent_kernel"].shape[0]
        half = np.repeat(np.array([0.5, 0.5, 1.0], dtype=np.float32), self.units)
        self.kernel = np.ascontiguousarray((w["kernel"] * half).T)
        self.recurrent = np.ascontiguousarray((w["recurrent_kernel"] * half).T)
        self.bias = (w["bias"] * half)[..., None]

    def __call__(self, state: Matrix, age_days: Matrix) -> Matrix:
        given = times(self.kernel, state)
        given += self.bias[0]
        steps, _, count = state.shape
        found = np.empty((steps, self.units, count), dtype=np.float32)
        hidden = np.zeros((self.units, count), dtype=np.float32)
        gates = np.empty_like(given[0])
        update, reset, fresh = gates.reshape(3, self.units, count)
        sigmoids = gates[: 2 * self.units]
        for step in range(steps):
            times(self.recurrent, hidden, out=gates)
            gates += self.bias[1]
            sigmoids += given[step, : 2 * self.units]
            np.tanh(sigmoids, out=sigmoids)
            sigmoids += 1
            sigmoids *= np.float32(0.5)
            fresh *= reset
            fresh += given[step, 2 * self.units :]
            np.tanh(fresh, out=fresh)
            fade = hidden - fresh
            fade *= update
            hidden = np.add(fade, fresh, out=found[step])
        return found


class _Transformer:
    """`encoder.CausalBlock`: attention to what came before, faded by the time between, then a layer of each event."""

    def __init__(self, w: Weights) -> None:
        self.w = w

    def __call__(self, state: Matrix, age_days: Matrix) -> Matrix:
        w, steps = self.w, len(state)
        elapsed = np.log1p(np.maximum(age_days[:, None, :] - age_days[:, :, None], np.float32(0)))
        state = _normed(_users_first(state) @ w["into_kernel"])  # (B, L, units)
        query, key, value = (state[:, None] @ heads for heads in w["query_key_value"])  # (B, heads, L, HEAD_SIZE)
        logits = query @ key.transpose(0, 1, 3, 2) * np.float32(HEAD_SIZE**-0.5)
        logits -= np.exp(w["fading"])[:, None, None] * elapsed[:, None]
        weights = _softmax(np.where(np.tri(steps, dtype=bool), logits, MASKED), axis=-1)
        state = _normed(state + ((weights @ value) @ w["out"]).sum(axis=1))
        hidden = np.maximum(state @ w["hidden_kernel"] + w["hidden_bias"], np.float32(0))
        return _normed(state + hidden @ w["kernel"] + w["bias"]).transpose(1, 2, 0)


_LAYERS: Final[Mapping[str, type[_Layer]]] = {"lstm": _Lstm, "gru": _Gru, "transformer": _Transformer}


def steps_of(length: int, longest: int) -> int:
    """Steps of the block that a user of `length` events is encoded in: SHORTEST, twice it, and so on, to `longest`."""
    steps = SHORTEST
    while steps < length:
        steps *= 2
    return min(steps, longest)


def _blocks(lengths: NDArray[np.int32], longest: int) -> Iterator[tuple[NDArray[np.intp], int]]:
    """The users of each block, and its steps: users of one number of steps together, in their order."""
    steps = np.array([steps_of(length, longest) for length in range(longest + 1)])[lengths]
    for size in np.unique(steps):
        users = np.flatnonzero(steps == size)
        for begin in range(0, len(users), ROWS):
            yield users[begin : begin + ROWS], int(size)


def _padded(rows: EncoderInput, users: NDArray[np.intp], steps: int) -> EncoderInput:
    """The users' rows, cut to `steps` and filled up to ROWS users without events."""
    missing = ROWS - len(users)

    def block(column: NDArray[Any]) -> NDArray[Any]:
        part = column[users, :steps] if column.ndim > 1 else column[users]
        return np.pad(part, [(0, missing), *[(0, 0)] * (part.ndim - 1)])

    return EncoderInput(*(block(column) for column in rows))


def _users_first(block: Matrix) -> Matrix:
    """(L, n, B) as (B, L, n), moved in memory: NumPy multiplies other orders without BLAS."""
    return np.ascontiguousarray(block.transpose(2, 0, 1))


def _softmax(logits: Matrix, axis: int) -> Matrix:
    weights: Matrix = np.exp(logits - logits.max(axis=axis, keepdims=True))
    weights /= weights.sum(axis=axis, keepdims=True)
    return weights


def _normed(state: Matrix) -> Matrix:
    """Each event's units brought to mean 0 and variance 1."""
    centred = state - state.mean(axis=-1, keepdims=True)
    normed: Matrix = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + np.float32(1e-6))
    return normed
