"""Raw files of every format become the same columns; each time means one instant, each id itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from halflife import schemas, sources
from halflife.config import CatalogueConfig, SourceConfig
from halflife.errors import ConfigError, HalflifeError, InputMissingError
from halflife.sources.failures import explain

NIGHT = date(2026, 1, 3)
COLUMNS = {"user": "user", "item": "item", "time": "time"}
LINE = "user,item,time\nu,i,2026-01-01\n"


def configured(path: Path | str, **changes: Any) -> SourceConfig:
    settings = {"path": str(path), "format": "csv", "event_type": "view", "columns": COLUMNS, **changes}
    return SourceConfig.model_validate(settings)


def read(spark: SparkSession, source: SourceConfig) -> DataFrame:
    return sources.read(spark, sources.find("log", source, None, NIGHT))


def micros(frame: DataFrame) -> list[int | None]:
    return [row[0] for row in frame.select(F.unix_micros("event_time")).collect()]


def of_times(spark: SparkSession, folder: Path, times: Sequence[str], **options: str) -> list[int | None]:
    lines = "\n".join(f"u\ti\t{time}" for time in times)
    (folder / "log.tsv").write_text(f"user\titem\ttime\n{lines}\n", encoding="utf-8")
    return micros(read(spark, configured(folder / "log.tsv", delimiter="\t", **options)))


def at(*when: int) -> int:
    return round(datetime(*when, tzinfo=UTC).timestamp()) * 1_000_000


# --- Times


def test_a_time_as_text_means_one_instant_or_none(spark: SparkSession, tmp_path: Path) -> None:
    meant = {
        "2025-07-01T12:00:00Z": at(2025, 7, 1, 12),
        "2025-07-01T12:00:00z": at(2025, 7, 1, 12),
        "2025-07-01T12:00Z": at(2025, 7, 1, 12),
        "2025-07-01 12:00+01:00": at(2025, 7, 1, 11),
        "2025-07-01 12:00 Europe/Paris": at(2025, 7, 1, 10),
        "2025-07-01 12:00:00+01": at(2025, 7, 1, 11),
        "2025-07-01T12:00:00.5+0100": at(2025, 7, 1, 11) + 500_000,
        "2025-07-01T12:00:00-05:30": at(2025, 7, 1, 17, 30),
        "2025-07-01 12:00:00 Europe/Paris": at(2025, 7, 1, 10),
        "2025-07-01 12:00:00 PST": at(2025, 7, 1, 19),
        "2025-07-01 12:00:00 UTC": at(2025, 7, 1, 12),
        # In London, where it is summer:
        "2025-07-01 12:00:00": at(2025, 7, 1, 11),
        "2025-07-01T12:00:00.123456": at(2025, 7, 1, 11) + 123_456,
        "2025-7-1 9:05": at(2025, 7, 1, 8, 5),
        "2025-07-01": at(2025, 6, 30, 23),
        "12:30": None,  # of which day? not of today's
        "1751367600": None,
        "2025-02-29": None,
        "": None,
    }
    assert of_times(spark, tmp_path, list(meant), time_zone="Europe/London") == list(meant.values())


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/London", datetime(2025, 3, 30)),
        ("Europe/London", datetime(2025, 10, 26)),
        ("America/New_York", datetime(2025, 3, 9)),
        ("America/New_York", datetime(2025, 11, 2)),
        ("Australia/Lord_Howe", datetime(2025, 4, 6)),  # by half an hour
    ],
)
def test_an_hour_that_occurs_twice_is_its_first_and_one_that_does_not_exist_is_moved_on(
    spark: SparkSession, tmp_path: Path, zone: str, day: datetime
) -> None:
    clock = [day + timedelta(minutes=10 * n) for n in range(24 * 6)]
    # Python's fold=0 is the first occurrence, and what a clock showed before the gap.
    expected = [round(time.replace(tzinfo=ZoneInfo(zone), fold=0).timestamp()) * 1_000_000 for time in clock]
    assert of_times(spark, tmp_path, [str(time) for time in clock], time_zone=zone) == expected


@pytest.mark.parametrize(
    ("time_format", "meant"),
    [
        ("epoch_seconds", {"1751367600": 1_751_367_600_000_000, " 1.1234567 ": 1_123_457, "x": None}),
        ("epoch_millis", {"1751367600123": 1_751_367_600_123_000, "-1": -1_000, "9" * 30: None}),
        ("epoch_micros", {"1751367600123456": 1_751_367_600_123_456, "1.7513676e15": 1_751_367_600_000_000}),
        ("d/M/yyyy H:mm", {"1/12/2010 8:26": at(2010, 12, 1, 8, 26), "1/7/2010 8:26": at(2010, 7, 1, 7, 26)}),
        ("d/M/yyyy H:mm", {"1/13/2010 8:26": None, "1/12/2010": None}),
        ("yyyyMMddHHmmXX", {"201007010826Z": at(2010, 7, 1, 8, 26), "201007010826+0200": at(2010, 7, 1, 6, 26)}),
        ("yyyyMMdd' Zulu'", {"20100701 Zulu": at(2010, 6, 30, 23)}),  # Z in a quotation is no zone
    ],
)
def test_a_time_is_read_as_its_format_says(
    spark: SparkSession, tmp_path: Path, time_format: str, meant: dict[str, int | None]
) -> None:
    found = of_times(spark, tmp_path, list(meant), time_format=time_format, time_zone="Europe/London")
    assert found == list(meant.values())


def test_a_pattern_that_spark_does_not_know_is_refused_before_reading(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources\.log\.time_format: 'YYYY-MM-dd' is no pattern"):
        of_times(spark, tmp_path, ["2025-01-01"], time_format="YYYY-MM-dd")


@pytest.mark.parametrize(
    ("times", "options", "expected"),
    [
        (pa.array([at(2025, 7, 1, 12)], pa.timestamp("us", "UTC")), {}, at(2025, 7, 1, 12)),
        (pa.array([at(2025, 7, 1, 12)], pa.timestamp("us", "Asia/Tokyo")), {}, at(2025, 7, 1, 12)),
        (pa.array([at(2025, 7, 1, 12)], pa.timestamp("us")), {}, at(2025, 7, 1, 11)),
        (pa.array([at(2025, 7, 1, 12) // 1_000], pa.timestamp("ms")), {}, at(2025, 7, 1, 11)),
        (pa.array([at(2025, 7, 1, 12) * 1_000 + 1], pa.timestamp("ns")), {}, at(2025, 7, 1, 11)),
        (pa.array([at(2025, 7, 1, 12) * 1_000], pa.timestamp("ns", "UTC")), {}, at(2025, 7, 1, 12)),
        (pa.array([date(2025, 7, 1)]), {}, at(2025, 6, 30, 23)),
        (pa.array(["2025-07-01 12:00:00"]), {}, at(2025, 7, 1, 11)),
        (pa.array([1_751_367_600]), {}, 1_751_367_600_000_000),
        (pa.array([1_751_367_600.1]), {}, 1_751_367_600_100_000),
        (pa.array([1_751_367_600_123]), {"time_format": "epoch_millis"}, 1_751_367_600_123_000),
        (pa.array([20250701]), {"time_format": "yyyyMMdd"}, at(2025, 6, 30, 23)),
    ],
    ids=str,
)
def test_a_parquet_time_of_any_type_is_read_in_its_zone(
    spark: SparkSession, tmp_path: Path, times: pa.Array, options: dict[str, str], expected: int
) -> None:
    pq.write_table(pa.table({"user": ["u"], "item": ["i"], "time": times}), tmp_path / "log.parquet")
    source = configured(tmp_path / "log.parquet", format="parquet", time_zone="Europe/London", **options)
    assert micros(read(spark, source)) == [expected]


def test_the_old_parquet_timestamps_are_read(spark: SparkSession, tmp_path: Path) -> None:
    table = pa.table({"user": ["u"], "item": ["i"], "time": pa.array([at(2025, 7, 1, 12)], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "log.parquet", use_deprecated_int96_timestamps=True)
    assert micros(read(spark, configured(tmp_path / "log.parquet", format="parquet"))) == [at(2025, 7, 1, 12)]


# --- Files and their days


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("template", "paths"),
    [
        ("log/date={date}/*", ["log/date=2026-01-01/a", "log/date=2026-01-02/b"]),
        ("log/date={date}", ["log/date=2026-01-01/a", "log/date=2026-01-02/hour=5/b"]),
        ("time={date}/*", ["time=2026-01-01/a", "time=2026-01-02/b"]),  # as a column is called
        ("my log+é %/{date}.x", ["my log+é %/2026-01-01.x", "my log+é %/2026-01-02.x"]),
        ("*/{date}/*", ["shop/2026-01-01/a", "a longer name/2026-01-02/2000-01-01"]),
    ],
)
def test_a_record_has_the_day_and_the_path_of_its_file(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, paths: list[str], format: str
) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        if format == "csv":
            (tmp_path / path).write_text(LINE)
        else:
            pq.write_table(pa.table({"user": ["u"], "item": ["i"], "time": [date(2026, 1, 1)]}), tmp_path / path)
    monkeypatch.chdir(tmp_path)  # the JVM stays where it is: paths must be made absolute here
    rows = read(spark, configured(template, format=format)).select("source_file", "arrival_day").collect()
    days = [date(2026, 1, 1), date(2026, 1, 2)]
    assert {tuple(row) for row in rows} == {(f"file:{tmp_path / p}", day) for p, day in zip(paths, days, strict=True)}


def test_the_columns_are_those_of_the_schema_whatever_the_format(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LINE)
    (tmp_path / "log.json").write_text(json.dumps({"user": 1, "item": 2, "time": "2026-01-01"}))
    pq.write_table(pa.table({"user": [1], "item": [2], "time": [3]}), tmp_path / "log.parquet")
    for format in ("csv", "json", "parquet"):
        frame = read(spark, configured(tmp_path / f"log.{format}", format=format))
        assert [(f.name, f.dataType) for f in frame.schema] == [(f.name, f.dataType) for f in schemas.RAW]


# --- Fields


def test_all_parts_of_a_record_are_read(spark: SparkSession, tmp_path: Path) -> None:
    columns = {**COLUMNS, "event_id": "id", "session_id": "s", "dwell_seconds": "d", "rating": "r", "quantity": "q"}
    (tmp_path / "log.csv").write_text(
        "user;item;time;id;s;d;r;q;shop;page\nu;i;2026-01-01;e1;s1;1.5;x;-2;London;\nu;i;2026-01-01; ;;;;;;\n"
    )
    source = configured(tmp_path / "log.csv", delimiter=";", columns={**columns, "context": ["shop", "page"]})
    full, blank = (row.asDict() for row in read(spark, source).collect())
    wanted = {"event_type": "view", "event_id": "e1", "given_session_id": "s1", "dwell_seconds": 1.5, "rating": None}
    wanted |= {"rating_text": "x", "quantity": -2.0, "context": {"shop": "London", "page": None}, "fault": None}
    assert {name: full[name] for name in wanted} == wanted
    assert full["raw"] == "u;i;2026-01-01;e1;s1;1.5;x;-2;London;"
    assert blank["event_id"] is None
    assert blank["given_session_id"] is None


def test_a_parquet_field_inside_a_struct_is_mapped_with_dots(spark: SparkSession, tmp_path: Path) -> None:
    rows = [{"user": {"id": "u"}, "item.sku": "i", "time": 0, "seen": datetime(2026, 1, 1)}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    columns = {"user": "user.id", "item": "item.sku", "time": "time"}
    (row,) = read(spark, configured(tmp_path / "log.parquet", format="parquet", columns=columns)).collect()
    assert (row["user_id"], row["item_id"]) == ("u", "i")
    shown = {"item.sku": "i", "seen": "2026-01-01T00:00:00.000", "time": 0, "user": {"id": "u"}}
    assert json.loads(row["raw"]) == shown


def test_an_event_type_is_the_first_whose_pattern_is_found(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "user,item,time,invoice\n" + "\n".join(f"u,i,2026-01-01,{code}" for code in ("C17", "17", "A1", ""))
    )
    patterns = {"cancel": "^C", "purchase": r"\d\d"}
    columns = {**COLUMNS, "event_type": "invoice"}
    source = configured(tmp_path / "log.csv", event_type=None, columns=columns, type_patterns=patterns)
    assert [row["event_type"] for row in read(spark, source).collect()] == ["cancel", "purchase", "A1", None]


def test_a_log_is_taken_apart_by_its_own_pattern(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("1767225600 user_id=u $1 \\x\n1767225600 user_id=- i\n")
    source = configured(
        tmp_path / "app.log",
        format="log",
        pattern=r"(?<time>\d+) user_id=(?P<user_id>\S+) (?:<b>)?(?<item>.+)",
        time_format="epoch_seconds",
        columns={**COLUMNS, "user": "user_id"},
    )
    rows = read(spark, source).collect()
    assert [(row["user_id"], row["item_id"]) for row in rows] == [("u", "$1 \\x"), (None, "i")]
    assert [row["fault"] for row in rows] == [None, None]


def test_of_a_text_without_end_only_the_start_is_kept(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LINE + "x" * 100_000)
    assert {len(row["raw"]) for row in read(spark, configured(tmp_path / "log.csv")).collect()} == {14, 65_536}


# --- Plans


def plan(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().toString())


@pytest.mark.parametrize(
    ("name", "text", "parser"), [("csv", LINE, "from_csv"), ("json", '{"user":1,"item":2,"time":3}', "from_json")]
)
def test_a_line_is_parsed_once_whatever_is_asked_of_it(
    spark: SparkSession, tmp_path: Path, name: str, text: str, parser: str
) -> None:
    (tmp_path / f"log.{name}").write_text(text)
    frame = read(spark, configured(tmp_path / f"log.{name}", format=name))
    asked = plan(frame.where("fault is null and user_id > 'a' and event_time > '2020-01-01' and item_id <> ''"))
    assert asked.count(f"{parser}(") == 1


def test_parquet_of_one_layout_is_read_in_one_flat_pass(spark: SparkSession, tmp_path: Path) -> None:
    for day in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"date={day}").mkdir()
        pq.write_table(
            pa.table({"user": ["u"], "item": ["i"], "time": pa.array([0], pa.timestamp("us", "UTC")), "more": [1]}),
            tmp_path / f"date={day}" / "a.parquet",
        )
    frame = read(spark, configured(f"{tmp_path}/date={{date}}/*", format="parquet"))
    lean = plan(frame.where("fault is null").select("source_file", "arrival_day", "user_id", "item_id", "event_time"))
    assert len(re.findall("FileScan parquet", lean)) == 1
    for costly in ("substring", "regexp", "to_json", "more", "cast(", "to_utc_timestamp"):
        assert costly not in lean


# --- Catalogues

ITEMS = [
    {"sku": 1, "name": "soap", "aisle": "bath", "brand": "x", "image": [0.5, 1.0]},
    {"sku": 2, "name": None, "aisle": "food", "brand": None, "image": None},
    {"sku": None, "name": "nothing", "aisle": None, "brand": "y", "image": [1.0, 2.0]},
]


def catalogue(path: Path, rows: Sequence[dict[str, Any]]) -> CatalogueConfig:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".json":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        cells = [['"' + json.dumps(v) + '"' if isinstance(v, list) else str(v or "") for v in r.values()] for r in rows]
        path.write_text("\n".join(map(",".join, [list(rows[0]), *cells])))
    return CatalogueConfig(
        path=str(path),
        format=path.suffix.removeprefix("."),
        id="sku",
        title="name",
        category="aisle",
        features=("brand",),
        vectors=("image",),
    )


@pytest.mark.parametrize("format", ["parquet", "json", "csv"])
def test_a_catalogue_lists_ids_with_their_features_and_vectors(
    spark: SparkSession, tmp_path: Path, format: str
) -> None:
    found = sources.read_catalogue(spark, "items", catalogue(tmp_path / f"items.{format}", ITEMS))
    types = {"features": "map<string,string>", "vectors": "map<string,array<float>>"}
    assert {name: kind for name, kind in found.dtypes if name not in ("id", "title", "category")} == types
    assert [tuple(row) for row in found.orderBy("id").collect()] == [
        ("1", "soap", "bath", {"brand": "x"}, {"image": [0.5, 1.0]}),
        ("2", None, "food", {}, {}),
    ]


def test_a_catalogue_without_features_has_empty_ones(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("id\nu\n")
    config = CatalogueConfig(path=str(tmp_path / "users.csv"), format="csv", id="id")
    assert [tuple(row) for row in sources.read_catalogue(spark, "users", config).collect()] == [
        ("u", None, None, {}, {})
    ]


@pytest.mark.parametrize("format", ["parquet", "json", "csv"])
@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([1.0], r"items\.vectors: column 'image' .* lists of 1 to 2 numbers"),
        ([1.0, None], r"column 'image' .* holds no list of finite numbers in 1 rows"),
        ("many", "column 'image'"),
    ],
)
def test_vectors_that_are_none_are_named(
    spark: SparkSession, tmp_path: Path, format: str, vector: Any, message: str
) -> None:
    rows = [{**ITEMS[0], "image": vector}] if vector == "many" else [*ITEMS, {**ITEMS[0], "image": vector}]
    with pytest.raises(HalflifeError, match=message):
        sources.read_catalogue(spark, "items", catalogue(tmp_path / f"items.{format}", rows))


def test_a_catalogue_without_its_column_or_with_damaged_lines_is_an_error(spark: SparkSession, tmp_path: Path) -> None:
    config = catalogue(tmp_path / "items.csv", ITEMS)
    with pytest.raises(InputMissingError, match=r"items: no column 'ean' \(for id\) in .*items\.csv; it has: sku"):
        sources.read_catalogue(spark, "items", config.model_copy(update={"id": "ean"}))
    with (tmp_path / "items.csv").open("a") as file:
        file.write("\n7,half")
    with pytest.raises(HalflifeError, match=r"items\.csv: cannot be read: a line is damaged: 7,half"):
        sources.read_catalogue(spark, "items", config)
    with pytest.raises(InputMissingError, match=r"items\.path: nothing matches"):
        sources.read_catalogue(spark, "items", config.model_copy(update={"path": str(tmp_path / "none")}))


def test_a_failure_of_spark_that_is_no_file_s_is_left_alone(spark: SparkSession) -> None:
    with pytest.raises(Exception, match="DIVIDE_BY_ZERO") as error:
        spark.range(1).select(F.lit(1) / F.col("id")).collect()
    assert explain(error.value) is None
