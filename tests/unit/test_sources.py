"""Which files a night reads."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from halflife import sources
from halflife.config import ColumnsConfig, SourceConfig
from halflife.errors import InputMissingError

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
