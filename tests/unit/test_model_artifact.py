"""A published model: what is written comes back, and what was changed is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from halflife.errors import ModelError
from halflife.model import artifact, manifest
from halflife.model.architecture import Architecture

ARCHITECTURE = Architecture(
    items=6,
    event_types=2,
    categories=2,
    half_lives_days=(1.0, 30.0, 180.0),
    horizon_days=7.0,
    sequence_length=8,
    vector_size=4,
    encoder_units=(6, 5),
    jump_units=7,
    item_traits=3,
)
ITEMS = pd.DataFrame({"item_index": range(6), "item_id": list("abcdef"), "category": ["x", None] * 3})
EVENTS = {
    "item_index": np.array([0, 5, 6, 99]),
    "type_index": np.array([0, 1, 0, 1]),
    "strength": np.array([1.0, -2.0, 0.5, 1.0]),
    "gap_seconds": np.array([np.nan, 0.0, 60.0, 1e6]),
    "revisit_gap_seconds": np.array([np.nan, 1e6, np.nan, 5e5]),
    "revisit_count": np.array([0, 3, 0, 1]),
    "session_position": np.array([0, 1, 2, 0]),
}


def some_weights(architecture: Architecture = ARCHITECTURE) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    shapes = architecture.shapes_for_scoring()
    weights = {name: rng.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {**weights, "half_lives_days": np.array([1.0, 30.0, 180.0], dtype=np.float32)}


def publish(directory: Path, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "architecture": ARCHITECTURE,
        "weights": some_weights(),
        "items": ITEMS,
        "event_types": ["purchase", "cancel"],
        "as_of_seconds": 1_512_086_400.0,
        "metrics": {"loss": 1.5},
        "config": {"seed": 7},
    }
    artifact.save(directory, **{**fields, **changes})


def test_saved_and_loaded_model_is_the_same(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    model = artifact.load(tmp_path / "model")
    assert model.kind == "neural"
    assert model.version.startswith("20171201-")
    assert model.half_lives_days.tolist() == [1.0, 30.0, 180.0]
    assert (model.horizon_days, model.sequence_length, model.vector_size) == (7.0, 8, 4)
    assert model.event_types == ("purchase", "cancel")
    assert model.manifest.metrics == {"loss": 1.5}
    np.testing.assert_array_equal(model.item_side(6).bias, some_weights()["items/bias"][:6])


def test_the_same_model_has_the_same_files(tmp_path: Path) -> None:
    publish(tmp_path / "one")
    publish(tmp_path / "two")
    assert manifest.read(tmp_path / "one").sha256 == manifest.read(tmp_path / "two").sha256


def test_items_added_after_training_are_cold(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    side = artifact.load(tmp_path / "model").item_side(9)
    assert side.vectors.shape == (9, 4)
    assert (side.bias[6:] == some_weights()["items/bias"][6]).all()
    assert not side.vectors[6:].any()


def test_jumps_are_positive_and_in_proportion_to_strength(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    model = artifact.load(tmp_path / "model")
    jumps = model.jumps(EVENTS)
    assert jumps.shape == (4, 3)
    assert (jumps > 0).all()
    np.testing.assert_allclose(model.jumps({**EVENTS, "strength": EVENTS["strength"] * 3}), jumps * 3)


def test_a_jump_is_the_same_to_the_last_bit_whoever_else_is_in_its_batch(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    model = artifact.load(tmp_path / "model")
    many = {name: np.tile(column, 700) for name, column in EVENTS.items()}
    jumps = model.jumps(many)
    for begin, end in ((0, 1), (2, 3), (1, 1_030), (17, 2_800)):
        part = model.jumps({name: column[begin:end] for name, column in many.items()})
        assert (part == jumps[begin:end]).all()


def test_an_event_type_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    with pytest.raises(ModelError, match="2 event types"):
        artifact.load(tmp_path / "model").jumps({**EVENTS, "type_index": np.array([0, 1, 2, 0])})


def test_sequences_of_another_length_are_refused(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    sequences = {"item_index": np.zeros((2, 50), dtype=int), "length": np.array([1, 2])}
    with pytest.raises(ModelError, match=r"50 events.*reads 8"):
        artifact.load(tmp_path / "model").encode(sequences)


@pytest.mark.parametrize("name", [artifact.WEIGHTS, artifact.ITEMS])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    publish(tmp_path / "model")
    path = tmp_path / "model" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{name}: changed"):
        artifact.load(tmp_path / "model")


@pytest.mark.parametrize("name", [artifact.WEIGHTS, artifact.ITEMS, manifest.NAME])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    publish(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelError, match=name):
        artifact.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("items/bias", np.zeros(3, dtype=np.float32), "items/bias is"),
        ("jump/bias", np.zeros(3, dtype=np.float64), "jump/bias is float64"),
        ("jump/kernel", np.full((7, 3), np.nan, dtype=np.float32), "not finite"),
        ("surprise", np.zeros(3, dtype=np.float32), "unknown arrays: surprise"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, name: str, array: Any, problem: str) -> None:
    publish(tmp_path / "model", weights={**some_weights(), name: array})
    with pytest.raises(ModelError, match=problem):
        artifact.load(tmp_path / "model")


def test_a_model_of_an_older_format_is_refused_with_the_remedy(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    path = tmp_path / "model" / manifest.NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1, "kind": "lstm"}))
    with pytest.raises(ModelError, match=r"format: Input should be 2.*train\.py"):
        artifact.load(tmp_path / "model")


def test_a_model_with_a_stretch_needs_that_of_its_users(tmp_path: Path) -> None:
    architecture = ARCHITECTURE.model_copy(update={"stretch": True})
    weights = some_weights(architecture)
    publish(tmp_path / "without", architecture=architecture, weights=weights)
    with pytest.raises(ModelError, match="missing or unknown arrays: users/stretch"):
        artifact.load(tmp_path / "without")
    publish(tmp_path / "with", architecture=architecture, weights=weights, stretch=np.zeros(9, dtype=np.float32))
    assert artifact.load(tmp_path / "with").manifest.users == 9


def test_the_exponential_law_needs_no_training(tmp_path: Path) -> None:
    law = artifact.exponential(
        tmp_path / "law",
        half_life_days=90.0,
        horizon_days=7.0,
        sequence_length=8,
        items=ITEMS,
        event_types=["purchase", "cancel"],
        as_of_seconds=0.0,
        config={},
    )
    assert law.kind == "exponential"
    assert law.jumps(EVENTS).tolist() == [[1.0], [2.0], [0.5], [1.0]]
    assert (np.exp(law.item_side(7).bias) == 0).all()
    assert law.encode({"length": np.array([3, 0]), "item_index": np.zeros((2, 8))}).shape == (2, 1, 1)
