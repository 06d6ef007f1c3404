"""Columns of text without a Python string a row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from halflife.histories.rows import Integers, Ints

# The two hexadecimal digits of each byte.
_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), dtype=np.uint16)


def hexadecimal(numbers: npt.NDArray[np.generic], prefix: bytes = b"") -> pa.StringArray:
    """Each 64-bit number as 16 hexadecimal digits behind a prefix."""
    width = len(prefix) + 16
    text = np.empty((len(numbers), width), dtype=np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    big_endian = numbers.view(np.uint64).astype(">u8").view(np.uint8)
    text[:, len(prefix) :] = _DIGITS[big_endian].view(np.uint8).reshape(-1, 16)
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def dictionary(codes: Integers, values: pa.StringArray) -> pa.DictionaryArray:
    """`values` at the places `codes`, without the values that no code asks for: a file would hold them all."""
    asked = np.zeros(len(values), dtype=np.bool_)
    asked[codes] = True
    place = np.cumsum(asked, dtype=np.int32) - 1
    return pa.DictionaryArray.from_arrays(place[codes], values.take(np.flatnonzero(asked)))


def suffixes(copies: Ints) -> pa.StringArray:
    """`-1` of a first copy and nothing of an original."""
    numbers, place = np.unique(copies, return_inverse=True)
    return pa.array([f"-{number}" if number else "" for number in numbers.tolist()], pa.string()).take(place)
