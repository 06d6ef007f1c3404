"""How exactly the published numbers are written: rounded to what a reader can tell apart, or in eight bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from halflife.decay import Floats

Matrix = NDArray[np.float32]
Codes = NDArray[np.uint8]

# Rounded: bits behind the leading one that are always kept, and the steps that are never made finer. Half a step is
# how far a published number may be off: together they stay below a millionth.
KEPT_BITS: Final = 10
STEP_OF_PARTS: Final = 2.0**-21
STEP_OF_SCORES: Final = 2.0**-20
_MANTISSA_BITS: Final = 23
_EXPONENT: Final = np.int32(0x7F80_0000)

# Eight bits: 0 is nothing, code c a strength of 2^(c / 10 - 21.3), from 4.1e-7 to 18.4.
STEPS_PER_OCTAVE: Final = 10
CODE_OF_ONE: Final = 213


def rounded(values: Matrix, step: float = STEP_OF_PARTS) -> Matrix:
    """Values to ten binary places behind the leading one, and no finer than a power of two, `step`.

    |error| <= min(step / 2, 2^-11 |value|) for values below 2^23 steps / 4; from there on as float32 itself, or one bit
    less. Bits that are zero are what compresses.
    """
    # Adding a number and taking it away again leaves what it cannot hold behind (Veltkamp, 1968): 2^23 steps leave
    # multiples of a step, and 2^13 times the leading bit leaves ten bits.
    first_of_step = np.float32(step * 2**KEPT_BITS).view(np.int32)
    large = np.minimum(values.view(np.int32) & _EXPONENT, first_of_step)
    large += np.int32((_MANTISSA_BITS - KEPT_BITS) << _MANTISSA_BITS)
    added = large.view(np.float32)
    result: Matrix = values + added
    result -= added
    return result


def rounded_scores(scores: Matrix) -> Matrix:
    """Scores rounded in the same way, which stay below one: |error| <= 2^-21."""
    result = rounded(scores, STEP_OF_SCORES)
    return np.minimum(result, np.float32(1.0 - STEP_OF_SCORES / 2), out=result)


def codes(strengths: Matrix) -> Codes:
    """Eight-bit codes of expected strengths >= 0: ten steps an octave, 0 below 4e-7, 255 from 18 on."""
    with np.errstate(divide="ignore"):  # the logarithm of nothing
        steps = np.log2(strengths)
    steps *= np.float32(STEPS_PER_OCTAVE)
    steps += np.float32(CODE_OF_ONE)
    np.clip(np.rint(steps, out=steps), 0, 255, out=steps)
    return steps.astype(np.uint8)


def strengths(codes: NDArray[Any]) -> Floats:
    """The expected strengths that eight-bit codes stand for."""
    found: Floats = np.exp2((np.asarray(codes, dtype=np.float64) - CODE_OF_ONE) / STEPS_PER_OCTAVE)
    return np.where(codes == 0, 0.0, found)


def _as_it_is(values: Matrix) -> Matrix:
    return values


@dataclass(frozen=True)
class Encoding:
    """How a score (from it and the expected strength behind it) and the affinity are written; memory is as computed.

    Of `few` values a dictionary is kept: what is rounded has some ten thousand in a row group, which takes 2 bytes a
    value where plain floats take 2.7. BYTE_STREAM_SPLIT is as small, but Spark 4.0 does not read it.
    """

    few: bool
    score: Callable[[Matrix, Matrix], NDArray[Any]]
    affinity: Callable[[Matrix], NDArray[Any]]
    formula: str = ""  # by which a reader gets the values, where what is written is a code


ENCODINGS: Final[Mapping[str, Encoding]] = {
    "rounded": Encoding(few=True, score=lambda _, score: rounded_scores(score), affinity=rounded),
    "float32": Encoding(few=False, score=lambda _, score: score, affinity=_as_it_is),
    "uint8": Encoding(
        few=True,
        score=lambda expected, _: codes(expected),
        affinity=codes,
        formula="score and affinity are codes c of a strength s: 0 where c = 0, else s = 2^(c / 10 - 21.3), "
        "within 3.6 % from 5e-7 to 18; affinity = s, score = 1 - exp(-s)",
    ),
}
