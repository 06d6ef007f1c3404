"""What the config of a source or a catalogue may say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from halflife.config import CatalogueConfig, SourceConfig

LOG = {"user": "host", "item": "path", "time": "time"}


def source(**changes: Any) -> SourceConfig:
    return SourceConfig.model_validate(
        {"path": "log", "event_type": "view", "columns": {"user": "u", "item": "i", "time": "t"}, **changes}
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delimiter": ""}, "at least 1 character"),
        ({"delimiter": '"'}, "cannot separate fields"),
        ({"encoding": "latin-7000"}, "is no known encoding"),
        ({"encoding": "UTF-16"}, "convert the files to UTF-8"),
        ({"encoding": "cp037"}, "convert the files to UTF-8"),
        ({"time_format": "%Y-%m-%d"}, "not with %"),
        ({"time_format": "epoch_nanos"}, "none of iso, epoch_seconds, epoch_millis, epoch_micros"),
        ({"pattern": "(?P<u>.)"}, "pattern needs format: log"),
        ({"format": "log", "pattern": "(?P<u>.) (?<i>.)"}, "no group 't'; its groups are u, i"),
        ({"format": "log", "pattern": "(?P<u>."}, "pattern: no regular expression"),
        ({"format": "log"}, "no group 'u'; its groups are host"),
        ({"type_patterns": {"view": "GET"}}, "type_patterns needs columns.event_type"),
    ],
)
def test_a_source_that_cannot_be_read_so_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source(**changes)


def test_a_type_pattern_must_be_a_regular_expression() -> None:
    with pytest.raises(ValidationError, match=r"type_patterns\.view: no regular expression"):
        source(event_type=None, columns={**LOG, "event_type": "k"}, type_patterns={"view": "("})


def test_a_tab_may_be_written_with_a_backslash() -> None:
    assert source(delimiter=r"\t").delimiter == "\t"


@pytest.mark.parametrize("encoding", ["utf8", "ISO-8859-1", "windows-1252", "shift_jis", "koi8-r"])
def test_encodings_over_ascii_are_known(encoding: str) -> None:
    assert source(encoding=encoding).encoding == encoding


@pytest.mark.parametrize(
    ("line", "groups"),
    [
        (
            r'127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 200 2326 "http://x/" "M \"q\" 5.0"',
            {"host": "127.0.0.1", "ident": "-", "user": "frank", "time": "10/Oct/2000:13:55:36 -0700", "method": "GET"}
            | {"path": "/a?b=c", "protocol": "HTTP/1.0", "status": "200", "bytes": "2326", "referer": "http://x/"}
            | {"agent": r"M \"q\" 5.0"},
        ),
        (r'::1 - - [t] "\x16\x03" 400 - "-" "-"', {"method": None, "path": r"\x16\x03", "bytes": "-", "agent": "-"}),
        ('h - - [t] "POST /a b HTTP/2.0" 204 0', {"method": "POST", "path": "/a b", "agent": None}),
        ('h - - [t] "" 408 0 "-" "-"', {"path": "", "status": "408"}),
    ],
)
def test_the_combined_log_format_is_taken_apart(line: str, groups: dict[str, str | None]) -> None:
    found = re.fullmatch(source(format="log", columns=LOG).line_pattern, line)
    assert found is not None
    assert {name: found[name] for name in groups} == groups


def test_a_log_has_the_time_of_its_format_unless_the_config_says_another() -> None:
    assert source(format="log", columns=LOG).time_pattern == "dd/MMM/yyyy:HH:mm:ss Z"
    assert source(format="log", columns=LOG, time_format="epoch_millis").time_pattern == "epoch_millis"
    assert source().time_pattern == "iso"


def test_a_catalogue_is_no_log() -> None:
    with pytest.raises(ValidationError, match="a catalogue is parquet, csv or json"):
        CatalogueConfig(path="p", id="i", format="log")
