"""What Spark says when a file cannot be read or written, as an error that names the thing, the cause and the remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from halflife.errors import HalflifeError, StorageError, UnreadableInputError

# What Spark says of a file that it could not read, or of one that is not there any more.
UNREADABLE = re.compile(
    r"\[(?:FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|PATH_NOT_FOUND)[\w.]*\].*?file:/*(/\S+)", re.DOTALL
)
FULL = ("No space left on device", "Disk quota exceeded")
# The causes that come up, in words; any other is quoted.
CAUSES = {
    "Unexpected end of input stream": "it ends in the middle",
    "does not exist": "it was removed while it was read",
    "not a gzip file": "it is no gzip file",
    "CRC failure": "it is damaged: its checksum does not fit",
    "is not a Parquet file": "it is no Parquet file, or is cut off",
}


def explain(error: BaseException) -> HalflifeError | None:
    """The failure as an error about a file or a full disk, where it is one."""
    messages = list(_messages(error))
    if any(sign in message for message in messages for sign in FULL):
        return StorageError(
            "no space is left on the warehouse's disk, or on that of Spark's scratch files (spark.local.dir); "
            "nothing was published; make room (halflife gc) and run again"
        )
    for message in messages:
        if found := UNREADABLE.search(message):
            return UnreadableInputError(unquote(found[1]).rstrip(".,"), _cause(messages))
    return None


def _cause(messages: list[str]) -> str:
    for sign, words in CAUSES.items():
        if any(sign in message for message in messages):
            return words
    return " ".join(messages[-1].split())[:200]


def _messages(error: BaseException) -> Iterator[str]:
    """The messages of a failure and of its causes, outermost first, on the JVM's side where it comes from there."""
    cause: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if cause is None:
        yield str(error)
    while cause is not None:
        yield str(cause.getMessage())
        cause = cause.getCause()
