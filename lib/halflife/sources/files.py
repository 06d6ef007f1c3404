"""Which files a night reads, and a look at how each begins."""

from __future__ import annotations

import bz2
import codecs
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from glob import glob
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TypeVar, cast

from halflife.config import SourceConfig
from halflife.errors import InputMissingError, UnreadableInputError

DATE = "{date}"
Found = TypeVar("Found")

THREADS = 8  # that look at files: most of that time is waiting for the disk or the network
HEAD_CHARACTERS = 4_000_000  # the longest first line that is looked at

# Compressions that Spark has no codec for here, or one that reads another framing than the command line tools write
# (lz4, snappy) and would give no rows at all without an error.
UNREADABLE_SUFFIXES = {
    ".zst",
    ".lz4",
    ".snappy",
    ".sz",
    ".xz",
    ".zip",
    ".7z",
    ".lzo",
    ".lzma",
    ".br",
    ".z",
    ".tar",
    ".tgz",
}
# What the first bytes of a file give away that is no plain text.
SIGNATURES = {
    b"\x1f\x8b": "gzip; let its name end in .gz",
    b"PAR1": "Parquet; set format: parquet",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; unpack it, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "Zstandard; compress it with gzip instead",
    codecs.BOM_UTF16_LE: "UTF-16; convert it to UTF-8",
    codecs.BOM_UTF16_BE: "UTF-16; convert it to UTF-8",
}


@dataclass(frozen=True)
class Intake:
    """The files of one source that a night reads: no folders, no globs."""

    name: str
    source: SourceConfig
    files: tuple[Path, ...]

    def fingerprint(self) -> list[tuple[str, int, int]]:
        """What decides whether the night must run again."""
        return fingerprint(self.files)


def fingerprint(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and modification time (ns) of every file, also of those in folders."""
    stats = [(file, file.stat()) for file in leaves(files)]
    return [(str(file), stat.st_size, stat.st_mtime_ns) for file, stat in stats]


def matching(pattern: str) -> list[Path]:
    """The files and folders that a path or glob names, in order."""
    return sorted(Path(match) for match in glob(pattern))


def leaves(paths: Iterable[Path]) -> list[Path]:
    """The files among `paths` and in the folders among them, in order.

    Names that begin with _ or . are passed over, as Spark does: markers, checksums and what is still being written.
    """
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            inside = (leaf for leaf in path.rglob("*") if leaf.is_file())
            found.update(leaf for leaf in inside if not any(map(_passed_over, leaf.relative_to(path).parts)))
        elif not _passed_over(path.name):
            found.add(path)
    return sorted(found)


def _passed_over(name: str) -> bool:
    return name.startswith(("_", ".")) or name.endswith("._COPYING_")


def existing(key: str, pattern: str) -> list[Path]:
    """The files of a path or glob, also those in folders.

    Raises InputMissingError that names the config's `key` and the path where there is none.
    """
    matches = matching(pattern)
    files = leaves(matches)
    if not matches:
        raise InputMissingError(f"{key}: nothing matches {pattern}")
    if not files:
        raise InputMissingError(f"{key}: no file in {pattern} (names that begin with _ or . do not count)")
    return files


def find(name: str, source: SourceConfig, since: date | None, as_of: date) -> Intake:
    """The files of a source for the days [since, as_of); from the first day that there is where `since` is None.

    Raises InputMissingError that names the path, or the first day without a file.
    """
    if not source.dated:
        return Intake(name, source, tuple(existing(f"sources.{name}.path", source.path)))
    by_day = _by_day(source.path)
    days = {day for day in by_day if day < as_of and (since is None or day >= since)}
    if source.required:
        first = since or min(days, default=as_of - timedelta(days=1))
        wanted = [first] if since is None else [first + timedelta(days=n) for n in range((as_of - first).days)]
        for day in wanted:
            if day not in days:
                raise InputMissingError(
                    f"sources.{name}.path: no file for {day} at {source.path.replace(DATE, day.isoformat())}; "
                    f"deliver the day's log, or set sources.{name}.required=false if a day may have none"
                )
    return Intake(name, source, tuple(path for day in sorted(days) for path in by_day[day]))


def _by_day(template: str) -> dict[date, list[Path]]:
    """Existing files of a `{date}` template by their day."""
    pattern = day_pattern(template)
    found: dict[date, list[Path]] = {}
    for match in sorted(glob(template.replace(DATE, "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"))):
        day = pattern.fullmatch(match)
        if day is not None and (files := leaves([Path(match)])):
            try:
                found.setdefault(date.fromisoformat(day[1]), []).extend(files)
            except ValueError as error:
                raise InputMissingError(f"{match}: {day[1]} is no day of the calendar; rename or remove it") from error
    return found


def day_pattern(template: str) -> re.Pattern[str]:
    """The regular expression of a `{date}` template's paths: its group 1 is the day, the same wherever it stands."""
    first, *others = map(_glob_as_regex, template.split(DATE))
    return re.compile(first + r"(\d{4}-\d{2}-\d{2})" + r"\1".join(others))


def _glob_as_regex(text: str) -> str:
    """A glob's text as a regular expression, with * ? and [...] as the shell knows them."""
    parts = re.split(r"(\*|\?|\[[^\]]+\])", text)
    shell = {"*": "[^/]*", "?": "[^/]"}
    return "".join(
        re.escape(part) if n % 2 == 0 else shell.get(part) or part.replace("[!", "[^") for n, part in enumerate(parts)
    )


def of_each(look: Callable[[Path], Found], files: Sequence[Path]) -> list[Found]:
    """`look` at every file, several at a time.

    Raises UnreadableInputError that names the file.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda file: _named(look, file), files))


def _named(look: Callable[[Path], Found], file: Path) -> Found:
    try:
        return look(file)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UnreadableInputError(file, str(error)) from error


def first_lines(file: Path, encoding: str, count: int = 1) -> list[str]:
    """The first `count` lines of a text file that are not blank, without their ends; fewer where it has no more.

    A line ends at \\n, \\r or \\r\\n, as it does for Spark. Raises UnreadableInputError for what is no text.
    """
    _refuse_what_is_no_text(file)
    lines: list[str] = []
    with _opened(file) as stream, TextIOWrapper(stream, encoding=encoding, errors="replace") as text:
        while len(lines) < count and (line := text.readline(HEAD_CHARACTERS)):
            plain = line.rstrip("\n").removeprefix("\ufeff")
            if plain.strip(" "):
                lines.append(plain)
    return lines


def _opened(file: Path) -> IO[bytes]:
    suffix = file.suffix.lower()
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(file))
    return bz2.open(file) if suffix == ".bz2" else file.open("rb")


def _refuse_what_is_no_text(file: Path) -> None:
    suffix = file.suffix.lower()
    if suffix in UNREADABLE_SUFFIXES or Path(file.stem).suffix.lower() == ".tar":
        raise UnreadableInputError(file, f"{suffix} files are not read", "unpack it, or compress it as .gz or .bz2")
    if suffix in (".gz", ".bz2"):
        return
    with file.open("rb") as stream:
        start = stream.read(4)
    for signature, what in SIGNATURES.items():
        if start.startswith(signature):
            raise UnreadableInputError(file, f"it is {what.split('; ')[0]}", what.split("; ")[1])


def absolute(path: Path | str) -> str:
    """The path from the root, without dots in it, as Spark writes it: links are not followed."""
    return os.path.abspath(path)  # noqa: PTH100


def spark_path(file: Path) -> str:
    """A file's path for Spark, which reads { } [ ] * ? and \\ in a path as a pattern."""
    return re.sub(r"([{}\[\]*?\\])", r"\\\1", absolute(file))
