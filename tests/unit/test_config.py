"""Configuration: what is refused, and whether the message says where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from halflife import config
from halflife.config import TrainConfig
from halflife.errors import ConfigError
from halflife.model.architecture import Architecture

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "conf" / "local.yaml"
ARCHITECTURE = dict.fromkeys(["items", "event_types", "categories", "sequence_length", "vector_size"], 3)
ARCHITECTURE |= {"jump_units": 3, "item_traits": 3, "horizon_days": 7, "half_lives_days": [1.0]}  # type: ignore[dict-item]


def environments() -> list[Path]:
    """The configurations of jobs that come with it: what extends another, and what they extend."""
    files = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "conf").glob("*.yaml")}
    return sorted(path for path, tree in files.items() if path.name == "base.yaml" or "extends" in tree)


@pytest.mark.parametrize("path", environments(), ids=lambda path: path.name)
def test_the_files_that_come_with_it_are_valid(path: Path) -> None:
    if path.name not in ("base.yaml", "cluster.yaml"):  # the parts that the others extend
        assert config.load(path).sources


def test_later_layers_win(tmp_path: Path) -> None:
    (tmp_path / "top.yaml").write_text(f"extends: {LOCAL}\nmodel: {{horizon_days: 3}}\n")
    loaded = config.load(tmp_path / "top.yaml", ["score.top_n=5", "model.kind=exponential"])
    assert (loaded.model.horizon_days, loaded.model.kind, loaded.score.top_n) == (3.0, "exponential", 5)
    assert loaded.sessionize.gap_seconds == 1_800


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sessionize.gap_second=60", r"sessionize\.gap_second: unknown key \(did you mean gap_seconds\?\)"),
        ("score.top_n=-1", r"score\.top_n: Input should be greater than 0, got -1"),
        ("score.top_n=many", r"score\.top_n: .*valid integer.*'many'"),
        ("model.kind=magic", r"model\.kind: Input should be 'neural'.* or 'exponential', got 'magic'"),
        ("sources.purchases.columns.usr=x", r"sources\.purchases\.columns\.usr: unknown key.*did you mean user\?"),
        ("sources.purchases.time_zone=Mars/Base", r"sources\.purchases\.time_zone: 'Mars/Base' is no IANA time zone"),
        ("sources.purchases.event_type=theft", r"sources\.purchases\.event_type: 'theft' is none of purchase"),
        ("sources.purchases.event_type=null", "give event_type .* or columns.event_type"),
        ("train.learning_rate=.nan", r"train\.learning_rate"),
        ("warehouse.x=1", "warehouse holds a value, not a section"),
        ("=1", "expected key.path=value"),
        ("score", "expected key.path=value"),
        ("score.top_n=[", "not readable as YAML"),
    ],
)
def test_a_bad_key_or_value_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(LOCAL, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "expected a mapping"),
        ("{", "not readable as YAML"),
        ("extends: me.yaml", "extends itself"),
        ("extends: nowhere.yaml", r"nowhere\.yaml: no such configuration file"),
        ("warehouse: w", "sources: Field required"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "me.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        config.load(path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_former_name_of_the_encoders_units_still_counts() -> None:
    assert config.load(LOCAL, ["model.lstm_units=[8, 4]"]).model.encoder_units == (8, 4)
    assert Architecture.model_validate(
        {**ARCHITECTURE, "lstm_units": [8, 4]}  # as in the manifest of an older model
    ) == Architecture.model_validate({**ARCHITECTURE, "encoder_units": [8, 4]})


def test_operational_keys_are_keys() -> None:
    assert set(TrainConfig.model_fields) > TrainConfig.OPERATIONAL


def test_an_error_is_one_line_whatever_it_names() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(LOCAL, ["two\nlines\x1b[31m=1"])
    assert r"two\nlines\x1b[31m: unknown key" in str(caught.value)
