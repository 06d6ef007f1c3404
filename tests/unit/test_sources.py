"""Which files a night reads."""

from __future__ import annotations

import bz2
import codecs
import gzip
from datetime import date, timedelta
from pathlib import Path

import pytest

from halflife import sources
from halflife.config import ColumnsConfig, SourceConfig
from halflife.errors import InputMissingError, UnreadableInputError
from halflife.sources.files import first_lines, leaves, spark_path

COLUMNS = ColumnsConfig(user="u", item="i", time="t")
FIRST = date(2026, 1, 1)


def dated(folder: Path, *days: int, required: bool = True) -> SourceConfig:
    for day in days:
        place = folder / f"date={FIRST + timedelta(days=day)}"
        place.mkdir(parents=True)
        (place / "a.parquet").write_bytes(b"x")
    return SourceConfig(path=f"{folder}/date={{date}}/*.parquet", event_type="view", columns=COLUMNS, required=required)


def days_read(source: SourceConfig, since: int | None, as_of: int) -> list[int]:
    begin = None if since is None else FIRST + timedelta(days=since)
    files = sources.find("log", source, begin, FIRST + timedelta(days=as_of)).files
    return [(date.fromisoformat(file.parent.name.removeprefix("date=")) - FIRST).days for file in files]


def test_the_first_night_reads_all_days_before_it(tmp_path: Path) -> None:
    assert days_read(dated(tmp_path, 0, 1, 2, 3), since=None, as_of=3) == [0, 1, 2]


def test_a_later_night_reads_the_days_since_the_last_one(tmp_path: Path) -> None:
    assert days_read(dated(tmp_path, 0, 1, 2, 3), since=1, as_of=3) == [1, 2]


def test_a_day_without_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"sources\.log\.path: no file for 2026-01-02 at .*date=2026-01-02"):
        days_read(dated(tmp_path, 0, 2), since=1, as_of=3)


def test_a_day_without_a_file_is_fine_where_the_config_says_so(tmp_path: Path) -> None:
    assert days_read(dated(tmp_path, 0, 2, required=False), since=1, as_of=3) == [2]


@pytest.mark.parametrize("template", ["nothing.csv", "date={date}/*.parquet"])
def test_no_file_at_all_is_an_error_that_names_the_path(tmp_path: Path, template: str) -> None:
    source = SourceConfig(path=f"{tmp_path}/{template}", event_type="view", columns=COLUMNS)
    with pytest.raises(InputMissingError, match=str(tmp_path)):
        sources.find("log", source, None, FIRST)


def test_a_folder_that_is_no_day_of_the_calendar_is_named(tmp_path: Path) -> None:
    source = dated(tmp_path, 0)
    (tmp_path / "date=2026-02-30").mkdir()
    (tmp_path / "date=2026-02-30" / "a.parquet").write_bytes(b"x")
    with pytest.raises(InputMissingError, match="2026-02-30 is no day of the calendar"):
        days_read(source, since=None, as_of=1)


def test_the_fingerprint_changes_with_a_file(tmp_path: Path) -> None:
    source = dated(tmp_path, 0)
    before = sources.find("log", source, None, FIRST + timedelta(days=1)).fingerprint()
    (tmp_path / f"date={FIRST}" / "a.parquet").write_bytes(b"changed")
    assert sources.find("log", source, None, FIRST + timedelta(days=1)).fingerprint() != before


def test_a_folder_means_the_files_in_it_without_markers_and_what_is_being_written(tmp_path: Path) -> None:
    for name in ("b/part-0", "a/part-1", "_SUCCESS", ".part-0.crc", "_temporary/part-2", "c._COPYING_"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert leaves([tmp_path, tmp_path / "a"]) == [tmp_path / "a/part-1", tmp_path / "b/part-0"]


def test_a_day_whose_folder_is_empty_has_no_file(tmp_path: Path) -> None:
    source = SourceConfig(path=f"{tmp_path}/date={{date}}", event_type="view", columns=COLUMNS)
    (tmp_path / f"date={FIRST}").mkdir()
    with pytest.raises(InputMissingError, match="no file for 2026-01-01"):
        sources.find("log", source, None, FIRST + timedelta(days=1))


@pytest.mark.parametrize(
    ("template", "paths"),
    [
        ("{date}.csv", ["2026-01-01.csv"]),
        ("log-[ab]-{date}*.csv", ["log-a-2026-01-01.csv", "log-b-2026-01-01-late.csv"]),
        ("*/{date}/{date}.csv", ["a/2026-01-01/2026-01-01.csv"]),
        ("date={date}", ["date=2026-01-01/a.csv", "date=2026-01-01/deeper/b.csv"]),
    ],
)
def test_a_day_is_found_wherever_the_path_has_it(tmp_path: Path, template: str, paths: list[str]) -> None:
    for name in [*paths, "x/2026-01-01/2026-01-02.csv", "log-c-2026-01-01.csv"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    source = SourceConfig(path=f"{tmp_path}/{template}", event_type="view", columns=COLUMNS)
    found = sources.find("log", source, FIRST, FIRST + timedelta(days=1))
    assert list(found.files) == [tmp_path / name for name in paths]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", b"u,v\r\n1,2"),
        ("a.csv", b"u,v\r1,2\r"),
        ("a.csv", codecs.BOM_UTF8 + b"\n \nu,v\n1,2\n"),
        ("a.csv.gz", gzip.compress(b"u,v\n1,2\n")),
        ("a.CSV.BZ2", bz2.compress(b"u,v\n1,2\n")),
        ("a.z.csv", b"u,v\n1,2\n"),
    ],
)
def test_a_file_begins_with_its_first_line_that_is_not_blank(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert first_lines(tmp_path / name, "UTF-8") == ["u,v"]
    assert first_lines(tmp_path / name, "UTF-8", count=3) == ["u,v", "1,2"]


@pytest.mark.parametrize("name", ["a.csv.zst", "a.lz4", "a.snappy", "a.csv.xz", "a.zip", "a.tar.gz", "A.ZIP"])
def test_a_compression_that_spark_does_not_read_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"u,v")
    with pytest.raises(UnreadableInputError, match=f"{name}: cannot be read: .* files are not read; unpack it"):
        first_lines(tmp_path / name, "UTF-8")


def test_a_path_for_spark_means_itself_and_no_pattern() -> None:
    assert spark_path(Path("/a/../b [1]/{x}*?.csv")) == r"/b \[1\]/\{x\}\*\?.csv"
