"""Items' content: the same numbers from every form of it, and a vector for an item that nobody touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from halflife.config import ModelConfig
from halflife.errors import ModelError
from halflife.model import artifact
from halflife.model.content import category_names, content_of, feature_names, vector_sizes
from halflife.model.network import Network
from halflife.training.initial import new_network

ITEMS = pd.DataFrame(
    {
        "item_index": range(5),
        "item_id": list("abcde"),
        "category": ["toys", None, "food", "toys", None],
        "features": [{"brand": "acme", "size": "XL"}, {"brand": "acme"}, None, {}, None],
        "vectors": [{"image": [3.0, 4.0], "text": [1.0, 0.0, 0.0]}, {"image": [0.0, 2.0]}, None, None, {}],
    }
)
# As the items table of a later night: two more, of which the second is not known at all.
LATER = pd.DataFrame(
    {
        "item_index": [5, 6, 7],
        "item_id": list("fgh"),
        "category": ["toys", "unheard of", None],
        "features": [{"brand": "acme", "size": "XL"}, {"colour": "red"}, {"brand": "never seen"}],
        "vectors": [{"image": [30.0, 40.0], "text": [2.0, 0.0, 0.0]}, None, None],
    }
)
CONFIG = ModelConfig(half_lives_days=(1.0, 30.0), vector_size=4, encoder_units=(6, 5), jump_units=7, feature_buckets=50)
NAMES: tuple[Any, ...] = (("food", "toys"), ("brand", "size"), 50, {"image": 2, "text": 3})


def published(network: Network, directory: Path) -> artifact.Model:
    artifact.save(
        directory,
        architecture=network.architecture,
        weights=network.weights_for_scoring(),
        items=ITEMS,
        event_types=["purchase"],
        as_of_seconds=0.0,
        metrics={},
        config={},
    )
    return artifact.load(directory)


def test_names_are_those_of_the_catalogue() -> None:
    assert (category_names(ITEMS), feature_names(ITEMS), 50, vector_sizes(ITEMS)) == NAMES


def test_content_is_numbers_from_one_on_and_vectors_of_length_one() -> None:
    content = content_of(ITEMS, *NAMES)
    assert content.category.tolist() == [2, 0, 1, 2, 0]
    assert content.buckets[0, 0] == content.buckets[1, 0]  # one brand
    assert (content.buckets[[0, 0, 1], [0, 1, 0]] > 0).all()
    assert not content.buckets[1, 1]
    assert not content.buckets[2:].any()
    assert content.buckets.max() <= 50
    np.testing.assert_allclose(content.vectors[:2], [[0.6, 0.8, 1, 0, 0], [0, 1, 0, 0, 0]], rtol=1e-6)
    assert not content.vectors[2:].any()
    assert content.known.tolist() == [True, True, True, True, False]
    cold = content.with_cold()
    assert not cold.known[-1]
    np.testing.assert_array_equal(cold.buckets[:-1], content.buckets)


def test_buckets_never_change() -> None:
    """They are part of a published model: another hash would read other rows."""
    assert content_of(ITEMS, *NAMES).buckets[0].tolist() == [15, 28]


def test_content_survives_the_forms_that_tables_come_in(tmp_path: Path) -> None:
    ITEMS.to_parquet(tmp_path / "items.parquet")  # as structs, which name what is missing
    pairs = ITEMS.assign(
        features=[list(entries.items()) if entries else entries for entries in ITEMS["features"]],
        vectors=[[(n, np.array(v)) for n, v in entries.items()] if entries else None for entries in ITEMS["vectors"]],
    )
    for form in (pd.read_parquet(tmp_path / "items.parquet"), pairs):
        assert (feature_names(form), vector_sizes(form)) == (NAMES[1], NAMES[3])
        for found, expected in zip(*(vars(content_of(i, *NAMES)).values() for i in (form, ITEMS)), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_vectors_of_another_size_are_refused() -> None:
    other = LATER.assign(vectors=[{"image": [1.0, 2.0, 3.0]}, None, None])
    with pytest.raises(ModelError, match=r"'image' of 3 numbers.* on 2"):
        content_of(other, *NAMES)
    with pytest.raises(ModelError, match="'image' of 2 and of 3 numbers"):
        vector_sizes(pd.concat([ITEMS, other]))


def test_an_item_added_after_training_has_the_vector_of_its_content(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    network = new_network(CONFIG, ITEMS, event_types=1, sequence_length=8)
    model = published(network, tmp_path / "model")
    side = model.item_side(8, pd.concat([ITEMS, LATER]))
    own = network.items.own_vectors.numpy()
    np.testing.assert_allclose(side.vectors[5], side.vectors[0] - own[0], rtol=1e-4, atol=1e-6)  # the same content
    assert not side.vectors[6].any()  # nothing is known of it that training has seen
    assert side.vectors[7].any()  # an unseen value of a known feature has a place
    assert (side.bias[5:] == side.bias[5]).all()
    np.testing.assert_array_equal(side.vectors[:5], model.item_side(8).vectors[:5])
    assert not model.item_side(8).vectors[5:].any()


def test_the_network_has_the_parts_that_the_catalogue_asks_for() -> None:
    full = new_network(CONFIG, ITEMS, event_types=1, sequence_length=8)
    assert (full.architecture.features, full.architecture.vectors) == (NAMES[1], NAMES[3])
    for part in ("features", "projection"):
        before = full.items.vectors(np.arange(5)).numpy()
        full.items.content_vectors.tables[part].assign_add(np.ones(full.items.content_vectors.tables[part].shape))
        changed = np.abs(full.items.vectors(np.arange(5)).numpy() - before).max(axis=1) > 0.1
        assert changed.tolist() == ([True] * 5 if part == "features" else [True, True, False, False, False])
    plain = new_network(CONFIG, ITEMS.drop(columns=["features", "vectors"]), event_types=1, sequence_length=8)
    assert set(plain.items.content_vectors.tables) == {"category"}
    inputs = full.items.inputs(np.array([[0, 1, 5], [2, 2, 0]]))
    assert inputs.shape == (2, 3, 4)
