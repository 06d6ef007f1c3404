"""The errors a job may end with, each with the exit code that a scheduler acts on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from halflife.escapes import escaped, redacted


class HalflifeError(Exception):
    """A failure with a one-line message that names the thing and the remedy."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        return escaped(redacted(Exception.__str__(self)))


class ConfigError(HalflifeError):
    """The command line or the configuration is wrong; running again will not help."""

    exit_code = 2


class UnknownIdError(HalflifeError, KeyError):
    """A user or an item that the night does not know."""

    exit_code = 2
    __str__ = HalflifeError.__str__  # KeyError's own shows the message in quotes


class InputMissingError(HalflifeError):
    """A file, a column, a table or a night that the job needs is not there."""

    exit_code = 3


class UnreadableInputError(HalflifeError):
    """A file is there, but cannot be read: cut off, damaged, or not what it is said to be."""

    exit_code = 3

    def __init__(self, file: Path | str, cause: str, remedy: str = "deliver it again") -> None:
        super().__init__(f"{file}: cannot be read: {' '.join(cause.split())}; {remedy}")


class AuditError(HalflifeError):
    """The output failed its audit: nothing was published."""

    exit_code = 4


class StorageError(HalflifeError):
    """A file system had no room, or a lake's store did not answer: running again helps when that is mended."""

    exit_code = 1


class PublishConflictError(HalflifeError):
    """Another run published the same table meanwhile: nothing was changed."""

    exit_code = 5


class ModelError(HalflifeError):
    """A model's files are missing, changed or do not fit one another."""

    exit_code = 3
