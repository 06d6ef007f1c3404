"""The champion gate: the tuned law, the champion scored from its files, and who goes live."""

from __future__ import annotations

import numpy as np
import pytest

from halflife.training import gate, law
from halflife.training.examples import History, history_of
from halflife.training.validation import ValidationUsers
from training_log import AS_OF, BEGIN, DAY, columns_of, row_of, user_events

WEEK = 7.0
FIGURES = {
    "validation_ndcg_at_10": 0.3,
    "validation_loss": 2.0,
    "law_half_life_days": 30.0,
    "law_ndcg_at_10": 0.2,
    "law_loss": 2.5,
}
BETTER_CHAMPION = {
    "champion_ndcg_at_10": 0.31,
    "champion_loss": 1.9,
    "challenger_ndcg_at_10": 0.3,
    "challenger_loss": 2.0,
    "challenge_days": 7.0,
}


def history(seconds: list[float], items: list[int]) -> History:
    columns = columns_of(BEGIN + np.array(seconds) * DAY, np.array(items), np.ones(len(items)))
    return history_of(row_of(columns), AS_OF)


def held_out(histories: list[History], begin: float, end: float) -> ValidationUsers:
    users = ValidationUsers()
    for place, user in enumerate(histories):
        users.add(user, begin, end, WEEK, place)
    return users


def test_a_model_that_beats_both_goes_live() -> None:
    verdict = gate.judge(FIGURES, "enforce", None)
    assert verdict.live == "model"
    worse = {"champion_ndcg_at_10": 0.29, "champion_loss": 2.1}
    verdict = gate.judge({**FIGURES, **BETTER_CHAMPION, **worse}, "enforce", "the model of May")
    words = "the new model beats the half-life of 30 days and the model of May on the 7 days that it has not seen"
    assert verdict == gate.Verdict("model", words, beaten=False)


def test_the_champion_is_met_on_days_of_its_own() -> None:
    """By figures of those days, not of all that were held out."""
    easy = {**BETTER_CHAMPION, "champion_ndcg_at_10": 0.5, "challenger_ndcg_at_10": 0.6, "champion_loss": 2.5}
    assert gate.judge({**FIGURES, **easy}, "enforce", "the model of May").live == "model"


@pytest.mark.parametrize("worse", [{"law_ndcg_at_10": 0.3}, {"law_loss": 2.0}, {"law_loss": float("nan")}])
def test_a_model_that_is_no_better_than_the_law_by_one_figure_loses(worse: dict[str, float]) -> None:
    assert gate.judge({**FIGURES, **worse}, "enforce", None).live == "law"
    verdict = gate.judge({**FIGURES, **worse}, "enforce", "the model of May")
    assert verdict.live == "champion"
    assert verdict.reason.startswith("the new model does not beat the half-life of 30 days (NDCG@10 0.3000 against ")


def test_a_model_that_loses_to_the_champion_leaves_it() -> None:
    figures = {**FIGURES, **BETTER_CHAMPION}
    verdict = gate.judge(figures, "enforce", "the model of May")
    assert verdict.live == "champion"
    days = "on the 7 days that it has not seen"
    shown = f"the model of May {days} (NDCG@10 0.3000 against 0.3100, loss 2.0000 against 1.9000)"
    assert verdict.reason == f"the new model does not beat {shown}"


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_where_the_gate_does_not_enforce_the_model_goes_live(mode: str) -> None:
    verdict = gate.judge({**FIGURES, **BETTER_CHAMPION}, mode, "the model of May")  # type: ignore[arg-type]
    assert verdict.live == "model"
    assert verdict.beaten
    assert verdict.reason.endswith(f"train.gate is {mode}")


def test_the_law_ranks_by_decayed_strength_and_then_by_popularity() -> None:
    # Item 1 three times long ago, item 2 once of late: a short half-life puts 2 first, a long one 1.
    users = held_out([history([0, 1, 2, 58, 65], [1, 1, 1, 2, 2])], BEGIN + 60 * DAY, BEGIN + 90 * DAY)
    popularity = np.array([0.1, 0.1, 0.1, 0.9])
    short, long, sessions = law._ndcg_sums(users, [5.0, 500.0], popularity, WEEK)
    assert (short, sessions) == (1.0, 1.0)
    assert long == pytest.approx(1 / np.log2(3))
    ranked = law._best(np.array([1, 2]), np.array([0.0, 2.0]), popularity, np.array([3, 0, 1, 2]))
    assert ranked.tolist() == [2, 3, 0, 1]


def test_the_laws_weights_are_the_most_likely_ones() -> None:
    users = held_out([history_of(row_of(user_events(user)), AS_OF) for user in range(40)], BEGIN + 50 * DAY, AS_OF)
    midnights = law._Midnights.of(users, 20.0, np.full(12, 0.05), WEEK)
    weight, floor = law._weights(midnights, lambda values: values)
    best, count = midnights.loss(weight, floor)
    assert count == 40
    for other in ((weight * 1.05, floor), (weight * 0.95, floor), (weight, floor * 1.05), (weight, floor * 0.95)):
        assert midnights.loss(*other)[0] > best


def test_the_half_life_is_tuned_before_the_validation_days_only() -> None:
    histories = [history_of(row_of(user_events(user)), AS_OF) for user in range(30)]
    tuning, validation = (held_out(histories, BEGIN + day * DAY, BEGIN + (day + 20) * DAY) for day in (60, 80))
    popularity = np.full(12, 0.05)
    found = law.tuned(tuning, validation, (popularity, popularity), [1.0, 10.0, 100.0], WEEK, lambda values: values)
    # Other validation days: the same law.
    other = law.tuned(tuning, tuning, (popularity, popularity), [1.0, 10.0, 100.0], WEEK, lambda values: values)
    assert (found.half_life_days, found.weight, found.floor) == (other.half_life_days, other.weight, other.floor)
    assert 0 < found.ndcg < 1


def test_a_log_too_short_for_tuning_days_tunes_the_law_on_the_validation_days() -> None:
    """Not on nothing: a network would go live for having beaten a law that nobody tuned."""
    histories = [history_of(row_of(user_events(user)), AS_OF) for user in range(30)]
    validation, popularity = held_out(histories, BEGIN + 80 * DAY, BEGIN + 100 * DAY), np.full(12, 0.05)
    grid, alone = [1.0, 10.0, 100.0], lambda values: values
    found = law.tuned(ValidationUsers(), validation, (np.zeros(12), popularity), grid, WEEK, alone)
    assert found == law.tuned(validation, validation, (popularity, popularity), grid, WEEK, alone)
    assert found.weight != 1.0


def test_without_any_example_the_law_keeps_its_weights() -> None:
    nobody, popularity = ValidationUsers(), np.full(12, 0.05)
    found = law.tuned(nobody, nobody, (popularity, popularity), [3.0, 9.0], WEEK, lambda values: values)
    assert found == law.Law(3.0, 1.0, 1.0, 0.0, 0.0)
