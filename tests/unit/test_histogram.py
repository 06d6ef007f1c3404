"""The histogram of a night's scores: counted in parts, described for the manifest."""

from __future__ import annotations

import numpy as np

from halflife import histogram
from halflife.decay import Floats


def scores(size: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.exp(-np.random.default_rng(7).gamma(8.0, 1.0, size)).astype(np.float32)


def counted(values: object) -> dict[str, list[float]]:
    return histogram.described(histogram.count(np.asarray(values, dtype=np.float32)))


def test_counts_are_those_between_the_edges() -> None:
    found = counted(scores(50_000))
    expected: Floats = np.histogram(scores(50_000), bins=found["edges"])[0]
    assert found["counts"] == expected.tolist()
    assert sum(found["counts"]) == 50_000


def test_quantiles_are_right_to_an_eighth() -> None:
    values = scores(50_000)
    found = histogram.described(histogram.count(values))["quantiles"]
    exact = np.quantile(values, histogram.QUANTILES)
    np.testing.assert_allclose(list(found.values()), exact, rtol=0.125)
    assert list(found)[3] == "p50"


def test_parts_add_up_to_the_whole() -> None:
    values = scores(50_000)
    parts = histogram.count(values[:20_001]) + histogram.count(values[20_001:].reshape(-1, 1))
    np.testing.assert_array_equal(parts, histogram.count(values))


def test_nothing_and_next_to_nothing_share_the_first_bin_and_one_ends_the_last() -> None:
    found = counted([0.0, 1e-30, np.nextafter(np.float32(1), np.float32(0))])
    assert found["edges"][:2] == [0.0, histogram.LOWEST]
    assert found["edges"][-1] == 1.0
    assert (found["counts"][0], found["counts"][-1]) == (2, 1)


def test_what_is_no_score_is_left_to_the_audit_and_no_scores_are_empty() -> None:
    assert counted([np.nan, 1.0, 7.0]) == {"edges": [], "counts": [], "quantiles": {}}
