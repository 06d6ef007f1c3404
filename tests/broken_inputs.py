"""A corpus of broken inputs, each written by code, with what must become of it."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from halflife.config import ColumnsConfig, SourceConfig

OK = None  # no reason to reject it
HEADER = "user,item,time,type,dwell,note"
NOON = "2026-01-01T12:00:00Z"
GOOD = f"u,i,{NOON},view,3.5,n"
NOON_INSTANT = datetime(2026, 1, 1, 12, tzinfo=UTC)
COLUMNS = ColumnsConfig(user="user", item="item", time="time", event_type="type", dwell_seconds="dwell")
MEGABYTE = "x" * 1_000_000
MAX_LONG = 2**63 - 1

Write = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """Files, how the config describes them, and what becomes of their records."""

    write: Write  # into a folder of its own
    reasons: Sequence[str | None] = ()  # of its records, in any order
    users: Sequence[str] | None = None  # ids of the accepted records, where they matter
    format: str = "csv"
    path: str = "log*"
    mapped: Mapping[str, Any] = field(default_factory=dict)  # columns that are mapped otherwise
    options: Mapping[str, Any] = field(default_factory=dict)

    def source(self, folder: Path) -> SourceConfig:
        """How the config describes the files in the folder."""
        mapped = {
            name: column for name, column in {**COLUMNS.model_dump(), **self.mapped}.items() if column is not None
        }
        settings = {"path": f"{folder}/{self.path}", "format": self.format, "columns": mapped, **self.options}
        return SourceConfig.model_validate(settings)


@dataclass(frozen=True)
class Refused(Case):
    """What ends the job, with a message that names the file."""

    file: str = "log"  # how the file's name begins
    message: str = ""  # a regular expression


# --- How files are written


def text(*lines: str, name: str = "log.csv", ends: str = "\n", encoding: str = "utf-8") -> Write:
    return content(name, (ends.join(lines) + ends).encode(encoding, "surrogatepass"))


def content(name: str, data: bytes) -> Write:
    return lambda folder: (folder / name).write_bytes(data)


def csv(*lines: str, **how: str) -> Write:
    return text(HEADER, *lines, **how)


def jsonl(*objects: Mapping[str, Any] | str) -> Write:
    lines = [line if isinstance(line, str) else json.dumps(line) for line in objects]
    return text(*lines, name="log.json", encoding="utf-8")


def several(*writes: Write) -> Write:
    return lambda folder: [write(folder) for write in writes]


def good(**changes: Any) -> dict[str, Any]:
    return {**{"user": "u", "item": "i", "time": NOON, "type": "view", "dwell": 3.5}, **changes}


def parquet(name: str = "log.parquet", rows: int = 1, **columns: Any) -> Write:
    """A table of good rows, but for the columns that are given; None leaves a column out."""
    stored = {
        "user": ["u"] * rows,
        "item": ["i"] * rows,
        "time": pa.array([NOON_INSTANT] * rows, pa.timestamp("us", "UTC")),
        "type": ["view"] * rows,
        "dwell": [3.5] * rows,
        **columns,
    }
    table = pa.table({name: column for name, column in stored.items() if column is not None})
    return lambda folder: pq.write_table(table, folder / name, compression="snappy", use_dictionary=False)


def damaged(write: Write, name: str, damage: Callable[[bytes], bytes]) -> Write:
    """A file of which some bytes are changed."""

    def written(folder: Path) -> None:
        write(folder)
        (folder / name).write_bytes(damage((folder / name).read_bytes()))

    return written


def overwritten(data: bytes) -> bytes:
    """Another hundred bytes in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(100) + data[middle + 100 :]


def without_footer(data: bytes) -> bytes:
    """Parquet whose footer has its length, but nothing that means anything."""
    size = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - size] + b"\xff" * size + data[-8:]


def lines_of(users: Sequence[str]) -> Write:
    return csv(*(f"{user},i,{NOON},view,1,n" for user in users))


def timed(*times: str) -> Write:
    return csv(*(f"u,i,{time},view,1,n" for time in times))


def dwelt(*dwells: str) -> Write:
    return csv(*(f"u,i,{NOON},view,{dwell},n" for dwell in dwells))


MANY = "\n".join([HEADER, *(f"user{n * 7919 % 100_003},i,{NOON},view,{n},n" for n in range(20_000))]).encode()

# Each of these is an id of its own: none is trimmed, folded or normalised.
ODDITIES = [
    "e\u0301",  # e and a combining accent
    "\u00e9",  # the same to the eye
    "\u202eabc",  # written from right to left
    "a\u200bb",  # a space of no width
    "\u200d",
    "👩‍👩‍👧",
    "\U0001d4b3",
    "\u0000a",
    "a\u0000b",
    "\ufffd",  # the mark itself, not put there by a decoder
    " lead",
    "trail ",
    "a\u00a0b",
    "ß",
    "SS",
    "\ufb01",
    "İ",
    "#comment",
    "\\N",
    "NULL",
    "a\u0085b",  # Unicode line ends, which end no line of a file
    "a\u2028b",
]

ENDS_IN_ROWS: dict[str, Case] = {
    # --- lines and encodings
    "byte order mark": Case(content("log.csv", codecs.BOM_UTF8 + f"{HEADER}\n{GOOD}\n".encode()), [OK], ["u"]),
    "byte order mark in gzip": Case(
        content("log.csv.gz", gzip.compress(codecs.BOM_UTF8 + f"{HEADER}\n{GOOD}\n".encode())), [OK]
    ),
    "bzip2": Case(content("log.csv.bz2", bz2.compress(f"{HEADER}\n{GOOD}\n".encode())), [OK]),
    "mixed newlines": Case(
        content("log.csv", f"{HEADER}\r\n{GOOD}\n{GOOD}\r{GOOD}\r\n\n\r\n{GOOD}".encode()), [OK] * 4
    ),
    "blank lines": Case(csv("", GOOD, "   ", GOOD), [OK] * 2),
    "latin-1 read as UTF-8": Case(csv(f"café,i,{NOON},view,1,n", GOOD, encoding="latin-1"), ["invalid_encoding", OK]),
    "latin-1 read as such": Case(
        csv(f"café,i,{NOON},view,1,n", encoding="latin-1"), [OK], ["café"], options={"encoding": "ISO-8859-1"}
    ),
    "windows-1252": Case(
        csv(f"5€,i,{NOON},view,1,n", encoding="cp1252"), [OK], ["5€"], options={"encoding": "windows-1252"}
    ),
    "UTF-8 read as ASCII": Case(csv(f"café,i,{NOON},view,1,n"), ["invalid_encoding"], options={"encoding": "US-ASCII"}),
    "UTF-8 cut inside a character": Case(content("log.csv", f"{HEADER}\n{GOOD}é".encode()[:-1]), ["invalid_encoding"]),
    "every oddity of Unicode": Case(lines_of(ODDITIES), [OK] * len(ODDITIES), ODDITIES),
    # --- CSV
    "quoted line end, lines": Case(csv(f'u,i,{NOON},view,1,"a\nb"', GOOD), ["malformed_line"] * 2 + [OK]),
    "quoted line end, multiline": Case(csv(f'u,i,{NOON},view,1,"a\nb"', GOOD), [OK] * 2, options={"multiline": True}),
    "quoted quotes and delimiters": Case(csv(f'"a ""b"", c",i,{NOON},view,1,"n,"'), [OK], ['a "b", c']),
    "bare quotes": Case(csv(f'5" nail,i,{NOON},view,1,n'), [OK], ['5" nail']),
    "unclosed quote": Case(csv(f'"u,i,{NOON},view,1,n', f'u,i,{NOON},view,1,"n', GOOD), ["malformed_line"] * 2 + [OK]),
    "unclosed quote and one more field": Case(csv(f'u,i,{NOON},view,1,n,"m'), ["malformed_line"]),
    "unclosed quote, multiline": Case(
        csv(GOOD, f'"u,i,{NOON},view,1,n', GOOD), [OK, "malformed_line"], options={"multiline": True}
    ),
    "too few and too many fields": Case(csv("u,i", f"{GOOD},more", GOOD), ["malformed_line"] * 2 + [OK]),
    "more fields than any parser has room for": Case(csv("," * 200_000, GOOD), ["malformed_line", OK]),
    "a column more": Case(several(csv(GOOD), text(f"{HEADER},more", f"{GOOD},x", name="log2.csv")), [OK] * 2),
    "a column that is optional less": Case(
        several(csv(GOOD), text("user,item,time,type", f"v,i,{NOON},view", name="log2.csv")), [OK] * 2
    ),
    "columns in another order": Case(
        several(csv(GOOD), text("type,time,dwell,item,user", f"view,{NOON},1,i,v", name="log2.csv")),
        [OK] * 2,
        ["u", "v"],
    ),
    "a header twice, of no column that is mapped": Case(text(f"{HEADER},note,Note", f"{GOOD},a,b"), [OK]),
    "headers that differ by case": Case(text(f"{HEADER},USER", f"{GOOD},v"), [OK], ["u"]),
    "header in the middle": Case(csv(GOOD, HEADER, GOOD), [OK] * 2),
    "header only": Case(csv()),
    "zero bytes with a given header": Case(content("log.csv", b""), options={"header": HEADER.split(",")}),
    "directory with a file's name": Case(
        several(
            lambda folder: (folder / "log.csv").mkdir(),
            csv(GOOD, name="log.csv/part-0"),
            csv("half", name="log.csv/_half"),
        ),
        [OK],
    ),
    "a file's name that is a pattern": Case(csv(GOOD, name="log [1] {a,b} 100%+é.csv"), [OK]),
    "megabyte of id": Case(lines_of([MEGABYTE]), ["id_too_long"]),
    "megabyte beside": Case(csv(f"u,i,{NOON},view,1,{MEGABYTE}"), [OK]),
    "megabyte of quotes": Case(csv(f'u,i,{NOON},view,1,"{MEGABYTE.replace("x", chr(34) * 2)}"'), [OK]),
    "missing fields": Case(
        csv(f",i,{NOON},view,,", f"\u00a0,i,{NOON},view,,", f"u, ,{NOON},view,,", "u,i,,view,,", f"u,i,{NOON},,,"),
        ["missing_user"] * 2 + ["missing_item", "missing_time", "unknown_event_type"],
    ),
    # --- numbers and times
    "numbers that are none": Case(
        dwelt("NaN", "Infinity", "1e400", "-1", "1,5", "0x10", "two"),
        ["unparsable_dwell"] * 5 + ["dwell_out_of_range", "malformed_line"],
    ),
    "days that are none": Case(
        timed(
            "2026-02-30",
            "2026-01-01 25:61",
            "10000-01-01",
            "292278994-08-17T07:12:55Z",
            "-2026-01-01",
            "01:30",
            "\u0662\u0660\u0662\u0666-01-01",  # digits, but Arabic ones
            "now",
            "1767225600",
        ),
        ["unparsable_time"] * 9,
    ),
    "the first and the last year": Case(
        timed("0000-01-01", "0001-01-01T00:00:00+18:00", "9999-12-31T23:59:59-18:00"),
        ["time_before_floor"] * 2 + ["time_after_as_of"],
        options={"time_zone": "Asia/Tokyo"},
    ),
    "seconds that overflow": Case(
        timed(
            str(MAX_LONG),
            "-" + str(MAX_LONG),
            "9" * 50,
            "1e400",
            "NaN",
            "",
            "253402300800",
            "-62167219201",
            "1767225600.5",
        ),
        ["unparsable_time"] * 5 + ["missing_time", "time_after_as_of", "time_before_floor", OK],
        options={"time_format": "epoch_seconds"},
    ),
    "times that miss their pattern": Case(
        timed("31/12/2025 10:00", "30/02/2025 10:00", "12/31/2025 10:00", NOON),
        [OK] + ["unparsable_time"] * 3,
        options={"time_format": "dd/MM/yyyy HH:mm"},
    ),
    # --- JSON lines
    "JSON that is no object": Case(
        jsonl("[1]", "null", "7", '"u"', json.dumps([good()]), good()), ["malformed_line"] * 5 + [OK], format="json"
    ),
    "JSON cut off": Case(jsonl(good(), json.dumps(good())[:-5]), [OK, "malformed_line"], format="json"),
    "two JSON objects on a line": Case(
        jsonl(json.dumps(good()) * 2, json.dumps(good()) + "," + json.dumps(good()), json.dumps(good()) + "x"),
        ["malformed_line"] * 3,
        format="json",
    ),
    "JSON with a key twice": Case(jsonl(json.dumps(good())[:-1] + ', "user": "last"}'), [OK], ["last"], format="json"),
    "JSON nulls": Case(jsonl(good(user=None), good(dwell=None)), ["missing_user", OK], format="json"),
    "JSON numbers as ids": Case(
        jsonl(good(user=12345678901234567890), good(user=-1), good(user=True)),
        [OK] * 3,
        ["12345678901234567890", "-1", "true"],
        format="json",
    ),
    "JSON numbers that are none": Case(
        jsonl(json.dumps(good()).replace("3.5", "NaN"), json.dumps(good()).replace("3.5", "1e400")),
        ["malformed_line", "unparsable_dwell"],
        format="json",
    ),
    "JSON deeper than it is mapped": Case(jsonl(good(user={"id": {"n": 1}})), [OK], ['{"id":{"n":1}}'], format="json"),
    "JSON flatter than it is mapped": Case(
        jsonl(good(item={"sku": "i"}), good(item="i"), good(item=None), good(item=[1])),
        [OK] + ["missing_item"] * 3,
        format="json",
        mapped={"item": "item.sku"},
    ),
    "JSON nested without an end": Case(
        jsonl(good(more=0), json.dumps(good(more=0)).replace(" 0}", " " + "[" * 100_000 + "}")),
        [OK, "malformed_line"],
        format="json",
    ),
    "JSON with half a character": Case(
        jsonl(
            *(
                json.dumps(good()).replace('"u"', f'"{user}"')
                for user in ("a\\ud800", "\\udc00", "\\ud83d\\ude00", "\\\\ud800")
            )
        ),
        ["invalid_encoding"] * 2 + [OK] * 2,
        ["😀", "\\ud800"],
        format="json",
    ),
    "JSON in the wrong encoding": Case(
        text(json.dumps(good(user="é"), ensure_ascii=False), name="log.json", encoding="latin-1"),
        ["invalid_encoding"],
        format="json",
    ),
    "JSON with a bare control character": Case(
        jsonl(json.dumps(good()).replace('"u"', '"u\tv"')), ["malformed_line"], format="json"
    ),
    "JSON oddities": Case(
        jsonl(*(good(user=user) for user in ODDITIES)), [OK] * len(ODDITIES), ODDITIES, format="json"
    ),
    "JSON of zero bytes": Case(content("log.json", b""), format="json"),
    "JSON with a field that no record has": Case(
        jsonl({key: value for key, value in good().items() if key != "dwell"}), [OK], format="json"
    ),
    # --- lines of a web server
    "garbage in an access log": Case(
        content(
            "log.log",
            b"\n".join(
                [
                    b'1.2.3.4 - - [01/Jan/2026:12:00:00 +0000] "GET /i HTTP/1.1" 200 5 "-" "a \\"b\\""',
                    b"\x16\x03\x01\xff",
                    b'1.2.3.4 - - [01/Jan/2026:12:00:00 +0000] "GET',
                    b"x\x01y",
                    b'1.2.3.4 - - [01/Foo/2026:12:00:00 +0000] "GET /i HTTP/1.1" 200 5 "-" "-"',
                    b'- - - [01/Jan/2026:12:00:00 +0000] "GET /i HTTP/1.1" 404 - "-" "-"',
                ]
            ),
        ),
        [OK, "invalid_encoding", "malformed_line", "malformed_line", "unparsable_time", "missing_user"],
        ["1.2.3.4"],
        format="log",
        mapped={"user": "host", "item": "path", "event_type": "method", "dwell_seconds": None},
        options={"type_patterns": {"view": "GET"}},
    ),
    # --- Parquet
    "types that change between files": Case(
        several(
            parquet(user=[17850]),
            parquet("log2.parquet", user=["17850"]),
            parquet("log3.parquet", rows=2, user=[17850.0, None]),
        ),
        [OK] * 3 + ["missing_user"],
        ["17850"] * 3,
        format="parquet",
    ),
    "columns that change between files": Case(
        several(parquet(), parquet("log2.parquet", dwell=None, more=[1])), [OK] * 2, format="parquet"
    ),
    "a column of nulls": Case(
        parquet(rows=2, dwell=pa.nulls(2), type=["view", "?"]), [OK, "unknown_event_type"], format="parquet"
    ),
    "a mapped column of nulls": Case(parquet(user=pa.nulls(1)), ["missing_user"], format="parquet"),
    "long ids": Case(
        parquet(rows=2, user=[12345678901234567, MAX_LONG]),
        [OK] * 2,
        ["12345678901234567", str(MAX_LONG)],
        format="parquet",
    ),
    "unsigned ids": Case(parquet(user=pa.array([2**64 - 1], pa.uint64())), [OK], [str(2**64 - 1)], format="parquet"),
    "decimal ids": Case(parquet(user=pa.array([17], pa.decimal128(10, 2))), [OK], ["17.00"], format="parquet"),
    "boolean ids": Case(parquet(user=[True]), [OK], ["true"], format="parquet"),
    "fractional ids": Case(
        parquet(rows=3, user=[1.5, 2.0**60, float("nan")]), [OK, OK, "missing_user"], format="parquet"
    ),
    "binary ids": Case(
        parquet(rows=2, user=["é".encode(), b"\xff\x00"]), [OK, "invalid_encoding"], ["é"], format="parquet"
    ),
    "text that is no UTF-8": Case(
        parquet(user=pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))),
        ["invalid_encoding"],
        format="parquet",
    ),
    "categorical ids": Case(parquet(user=pa.array(["u"]).dictionary_encode()), [OK], ["u"], format="parquet"),
    "NaN and infinite numbers": Case(
        parquet(rows=3, dwell=[float("nan"), float("inf"), -1.0]),
        ["unparsable_dwell"] * 2 + ["dwell_out_of_range"],
        format="parquet",
    ),
    "days beyond the calendar": Case(
        parquet(rows=2, time=pa.array([2**31 - 1, -(2**31)], pa.int32()).cast(pa.date32())),
        ["unparsable_time"] * 2,
        format="parquet",
    ),
    "instants beyond the calendar": Case(
        parquet(rows=2, time=pa.array([MAX_LONG, -MAX_LONG], pa.timestamp("us"))),
        ["unparsable_time"] * 2,
        format="parquet",
        options={"time_zone": "Asia/Tokyo"},
    ),
    "instants beyond any calendar": Case(
        parquet(rows=2, time=pa.array([MAX_LONG, -MAX_LONG], pa.timestamp("us", "UTC"))),
        ["time_after_as_of", "time_before_floor"],
        format="parquet",
    ),
    "nanoseconds": Case(
        parquet(rows=2, time=pa.array([NOON_INSTANT, None], pa.timestamp("ns"))), [OK, "missing_time"], format="parquet"
    ),
    "numbers of seconds that overflow": Case(
        parquet(rows=2, time=[MAX_LONG, 1_767_225_600]), ["unparsable_time", OK], format="parquet"
    ),
    "floating seconds that are none": Case(
        parquet(rows=3, time=[float("nan"), 1e300, 1_767_225_600.5]),
        ["missing_time", "unparsable_time", OK],
        format="parquet",
    ),
    "no rows": Case(parquet(rows=0), format="parquet"),
}

ENDS_AT_ONCE: dict[str, Refused] = {
    "missing column": Refused(
        text("customer,item,time,type,dwell", GOOD), message=r"no column 'user' \(for user\) .*it has: customer, item"
    ),
    "missing column in one file": Refused(
        several(csv(GOOD), text("user,time,type,dwell", GOOD, name="log2.csv")),
        file="log2.csv",
        message="no column 'item'",
    ),
    "optional column in no file": Refused(text("user,item,time,type", GOOD), message="no column 'dwell'"),
    "mapped header twice": Refused(text(f"{HEADER},user", f"{GOOD},v"), message="2 columns 'user'"),
    "another delimiter": Refused(csv(GOOD), options={"delimiter": ";"}, message="no column 'user'"),
    "zero bytes": Refused(content("log.csv", b""), message="it is empty"),
    "blanks only": Refused(content("log.csv", b"\n  \n"), message="it is empty"),
    "empty folder": Refused(lambda folder: (folder / "log.csv").mkdir(), message="no file in"),
    "markers only": Refused(
        lambda folder: ((folder / "log").mkdir(), (folder / "log" / "_SUCCESS").touch()), message="no file in"
    ),
    "no file": Refused(lambda folder: None, message="nothing matches"),
    ".gz that is no gzip": Refused(content("log.csv.gz", b"user,item"), message="(?i)not a gzip"),
    "gzip without a name for it": Refused(content("log.csv", gzip.compress(MANY)), message=r"let its name end in \.gz"),
    ".bz2 that is no bzip2": Refused(content("log.csv.bz2", b"user,item"), message="cannot be read"),
    "Zstandard": Refused(content("log.csv.zst", b"\x28\xb5\x2f\xfd"), message=r"compress it as \.gz"),
    "LZ4": Refused(content("log.json.lz4", b"\x04\x22\x4d\x18"), format="json", message=r"compress it as \.gz"),
    "a tar": Refused(content("log.tar.gz", b"x"), message="unpack it"),
    "Parquet as CSV": Refused(parquet("log.csv"), message="set format: parquet"),
    "workbook as CSV": Refused(content("log.csv", b"PK\x03\x04xl/workbook.xml"), message="Excel"),
    "UTF-16": Refused(csv(GOOD, encoding="utf-16"), message="convert it to UTF-8"),
    "misspelt JSON field": Refused(jsonl({"usr": "u"}), format="json", message="no column 'user'.*it has: usr"),
    "Parquet of zero bytes": Refused(content("log.parquet", b""), format="parquet", message="cannot be read"),
    "CSV as Parquet": Refused(csv(GOOD), format="parquet", message="cannot be read"),
    "Parquet cut off": Refused(
        damaged(parquet(), "log.parquet", lambda data: data[:-100]), format="parquet", message="cannot be read"
    ),
    "damaged footer": Refused(
        damaged(parquet(), "log.parquet", without_footer), format="parquet", message="cannot be read"
    ),
    "Parquet without a column": Refused(
        several(parquet(), parquet("log2.parquet", item=None)),
        format="parquet",
        file="log2.parquet",
        message="no column 'item'",
    ),
    "struct as id": Refused(
        parquet(user=[{"id": 1}]), format="parquet", message="column 'user' .* no single value but struct"
    ),
    "list as id": Refused(parquet(item=[[1]]), format="parquet", message="column 'item' .* no single value but array"),
    "columns that differ by case": Refused(
        parquet(User=["v"]), format="parquet", message=r"more than one column 'user'.*User, user"
    ),
}

ENDS_LATER: dict[str, Refused] = {
    "gzip cut off": Refused(content("log.csv.gz", gzip.compress(MANY)[:-5_000]), message="it ends in the middle"),
    "gzip damaged": Refused(damaged(content("log.csv.gz", gzip.compress(MANY)), "log.csv.gz", overwritten)),
    "bzip2 damaged": Refused(damaged(content("log.csv.bz2", bz2.compress(MANY)), "log.csv.bz2", overwritten)),
    "damaged page": Refused(
        damaged(
            parquet(rows=5_000, user=[f"{n * 7919 % 100_003}" for n in range(5_000)]),
            "log.parquet",
            lambda data: data[:2_000] + b"\xff" * 500 + data[2_500:],
        ),
        format="parquet",
    ),
}

NIGHT = date(2026, 1, 2)
