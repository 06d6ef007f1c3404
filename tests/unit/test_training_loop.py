"""One rank in this process: the same end after a break, what it leaves behind, and its variants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import horovod.tensorflow as hvd
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from halflife.config import TrainConfig
from halflife.errors import ConfigError, HalflifeError, InputMissingError
from halflife.model import artifact
from halflife.model.batch import Batch
from halflife.training import launch
from halflife.training.champion import Contestant
from halflife.training.loop import Trainer, _made_ahead, train_rank
from halflife.training.ranks import common_digest, use_one_core
from halflife.training.step import Step, _optimizer, learning_rate
from halflife.training.task import RankResult, Rival, TrainingTask
from halflife.training.validation import Validator, figures
from training_log import AS_OF, DAY, row_of, user_events, write_rows
from training_run import task_in

# While pytest collects: once the tests of another file have used TensorFlow, it is too late.
hvd.init()
use_one_core()


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table") / "rows"
    write_rows(folder, [row_of(user_events(user)) for user in range(48)], [12, 2, 10, 5, 7, 12])
    return folder


def with_keep(task: TrainingTask) -> TrainingTask:
    keep = task.model_directory.with_name("keep")
    keep.mkdir()
    return replace(task, keep=keep)


def lines(task: TrainingTask) -> list[dict[str, Any]]:
    return [json.loads(line) for line in task.progress_file.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingTask, RankResult]:
    """A run that nothing breaks."""
    task = with_keep(task_in(tmp_path_factory.mktemp("whole") / "work", rows, checkpoint_steps=4))
    return task, train_rank(task)


class KilledError(BaseException):
    """Stands for SIGKILL: nothing in the loop may catch it."""


def killed_after(steps: int) -> Callable[[Step, Batch, int, int], NDArray[np.float64]]:
    """`Step.take` of a run that is killed so many steps on."""
    take, taken = Step.take, []

    def take_until_killed(self: Step, batch: Batch, epoch: int, number: int) -> NDArray[np.float64]:
        taken.append((epoch, number))
        if len(taken) > steps:
            raise KilledError
        return take(self, batch, epoch, number)

    return take_until_killed


@pytest.mark.parametrize("steps", [5, 19])
def test_a_run_that_breaks_anywhere_ends_as_if_it_had_not(
    rows: Path,
    whole: tuple[TrainingTask, RankResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
) -> None:
    task = with_keep(task_in(tmp_path / "work", rows, checkpoint_steps=4))
    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", killed_after(steps))
        with pytest.raises(KilledError):
            train_rank(task)
    assert not task.model_directory.exists()
    result = train_rank(task)
    (resumed,) = [line["message"] for line in lines(task) if "goes on" in line["message"]]
    assert resumed == f"goes on from a checkpoint: epoch {steps // 6 + 1}, step {steps % 6 // 4 * 4}"
    assert result.weights_sha256 == whole[1].weights_sha256
    assert {**result.metrics, "train_seconds": 0} == {**whole[1].metrics, "train_seconds": 0}


def test_the_champion_from_its_files_scores_as_the_network_that_was_published(rows: Path, tmp_path: Path) -> None:
    task = task_in(tmp_path / "work", rows, epochs=2)
    trainer = Trainer(task)
    trainer.publish(trainer.run())
    users = trainer.population.held_out
    expected = figures(Validator(trainer.network, task.train).sums(users), task.train.ranking_weight)
    champion = Contestant(artifact.load(task.model_directory), trainer.items, task.model.horizon_days)
    loss, midnights, ndcg, sessions = champion.sums(users)
    assert midnights > 40
    assert loss / midnights == pytest.approx(expected["validation_loss"], rel=1e-4)
    assert ndcg / sessions == pytest.approx(expected["validation_ndcg_at_10"], rel=1e-3)


@pytest.fixture(scope="module")
def rival(whole: tuple[TrainingTask, RankResult]) -> Rival:
    """A champion that has not seen the last ten days."""
    return Rival(whole[0].model_directory, AS_OF - 10 * DAY)


def test_what_is_published_does_not_depend_on_the_champion_that_was_met(
    rows: Path,
    whole: tuple[TrainingTask, RankResult],
    rival: Rival,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor on a break while the network catches up to meet it, which is after 18 steps."""
    task = with_keep(replace(task_in(tmp_path / "work", rows, checkpoint_steps=4), champion=rival))
    with monkeypatch.context() as patch:
        patch.setattr(Step, "take", killed_after(20))
        with pytest.raises(KilledError):
            train_rank(task)
    result = train_rank(task)
    assert result.weights_sha256 == whole[1].weights_sha256
    metrics = result.metrics
    assert 0 < metrics["champion_loss"] < 2 * metrics["start_loss"]
    assert 0 < metrics["champion_ndcg_at_10"] < 1
    assert metrics["challenge_days"] == 10
    assert {**metrics, "train_seconds": 0}.items() >= {**whole[1].metrics, "train_seconds": 0}.items()


@pytest.mark.parametrize("model", [{}, {"stretch": True}], ids=str)
def test_a_challenger_knows_as_much_as_the_champion_where_they_meet(
    rows: Path, tmp_path: Path, model: dict[str, Any]
) -> None:
    """A model of ten days ago, from the same log, settings and held-out days but for the last ten, ties with itself.

    Where both keep the same epoch, that is, and what they caught up on: with one epoch they do.
    """
    last, first = (
        replace(task, model=task.model.model_copy(update=model))
        for task in (
            task_in(tmp_path / "last", rows, epochs=1, validation_days=21),
            task_in(tmp_path / "first", rows, epochs=1, validation_days=11),
        )
    )
    first = replace(first, as_of_seconds=AS_OF - 10 * DAY)
    assert train_rank(first).metrics["caught_up"] == 1
    metrics = train_rank(replace(last, champion=Rival(first.model_directory, first.as_of_seconds))).metrics
    assert metrics["champion_loss"] == pytest.approx(metrics["challenger_loss"], rel=1e-5)
    assert metrics["champion_ndcg_at_10"] == pytest.approx(metrics["challenger_ndcg_at_10"], rel=1e-5)


def spoiling(take_pass: Callable[[Trainer, float], None]) -> Callable[[Trainer, float], None]:
    """Epochs of catching up that make a bad model of a good one."""

    def spoiled(self: Trainer, end_seconds: float) -> None:
        take_pass(self, end_seconds)
        if self.at.catching_up:
            self.network.items.bias.assign_add(np.full(self.network.items.bias.shape, 6.0))

    return spoiled


def test_weights_that_catching_up_made_worse_are_not_published(
    rows: Path, whole: tuple[TrainingTask, RankResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_in(tmp_path / "work", rows)
    monkeypatch.setattr(Trainer, "_pass", spoiling(Trainer._pass))
    trainer = Trainer(task)
    metrics = trainer.run()
    assert metrics["caught_up"] == 0
    assert metrics["caught_up_objective"] > metrics["validation_objective"]
    users = trainer.population.held_out
    taken = figures(Validator(trainer.network, task.train).sums(users), task.train.ranking_weight)
    assert taken["validation_loss"] == pytest.approx(metrics["validation_loss"], rel=1e-6)
    assert "the weights from before are taken" in lines(task)[-1]["message"]
    assert whole[1].metrics["caught_up"] == 1
    assert whole[1].metrics["caught_up_objective"] < whole[1].metrics["validation_objective"]


def test_the_best_epoch_is_that_of_what_training_makes_small(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [(2.0, 5.0), (1.9, 5.1), (2.1, 4.0), (2.2, 4.5)]
    found = ({"validation_loss": loss, "validation_objective": objective} for loss, objective in told)
    trainer = Trainer(task_in(tmp_path / "work", rows, patience=3))
    plain = trainer._validate()
    monkeypatch.setattr(trainer, "_validate", lambda: {**plain, **next(found, {})})
    assert trainer.run()["best_epoch"] == 2
    assert trainer.at.best["validation_loss"] == 2.1


def test_ranks_that_hold_other_weights_are_no_one_model(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Trainer(task_in(tmp_path / "work", rows)).network
    assert len(common_digest(network)) == 64
    other = np.zeros((1, 32), dtype=np.uint8)
    monkeypatch.setattr(hvd, "allgather", lambda mine: tf.concat([mine, mine, other], axis=0))
    with pytest.raises(HalflifeError, match="weights of rank 2 are not those of rank 0"):
        common_digest(network)


def test_more_ranks_than_gpus_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["gpu:0"])
    monkeypatch.setattr(hvd, "local_size", lambda: 2)
    with pytest.raises(ConfigError, match=r"2 ranks on .*, which has 1 GPUs.*lower train\.ranks"):
        use_one_core()


def test_every_epoch_is_a_line_of_figures(whole: tuple[TrainingTask, RankResult]) -> None:
    epochs = [line for line in lines(whole[0]) if "train_loss" in line]
    assert [line["message"].split(":")[0] for line in epochs] == [f"epoch {n} of 3" for n in (1, 2, 3)]
    assert min(line["validation_loss"] for line in epochs) == whole[1].metrics["validation_loss"]
    assert all(line["done"] <= line["total"] for line in lines(whole[0]))
    for line in epochs:
        assert f"loss {line['train_loss']:.4f} and {line['train_order_loss']:.4f} of the order" in line["message"]
        # Likelihoods of the same model on other days: the order of items is not part of either.
        assert line["train_loss"] == pytest.approx(line["validation_loss"], rel=0.3)
        assert line["train_order_loss"] > 0


@pytest.mark.parametrize("variant", [{"precision": "mixed_float16"}, {"compression": "fp16"}], ids=str)
def test_half_precision_learns_as_well(
    rows: Path, whole: tuple[TrainingTask, RankResult], tmp_path: Path, variant: dict[str, Any]
) -> None:
    metrics = train_rank(task_in(tmp_path / "work", rows, **variant)).metrics
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": False})
    assert metrics["validation_loss"] == pytest.approx(whole[1].metrics["validation_loss"], rel=1e-2)


def test_event_files_hold_the_curve(rows: Path, tmp_path: Path) -> None:
    task = task_in(tmp_path / "work", rows, epochs=2)
    train_rank(replace(task, events=tmp_path / "events"))
    (file,) = (tmp_path / "events").iterdir()
    values: dict[str, list[float]] = {}
    for record in tf.compat.v1.io.tf_record_iterator(str(file)):
        for value in tf.compat.v1.Event.FromString(record).summary.value:
            values.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    told = [line["validation_loss"] for line in lines(task) if "train_loss" in line]
    assert values["validation_loss"] == pytest.approx(told, rel=1e-6)
    assert len(values["law_loss"]) == 1


def test_a_log_that_is_all_validation_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", [row_of(user_events(user)) for user in range(6)], [6])
    task = task_in(tmp_path / "work", tmp_path / "rows", validation_days=100)
    with pytest.raises(InputMissingError, match="too short for"):
        Trainer(task)


def test_batches_take_from_every_shard_to_the_last_step(rows: Path, tmp_path: Path) -> None:
    trainer = Trainer(task_in(tmp_path / "work", rows))
    assert trainer.population.users.sum() == 48
    assert trainer.steps == 6
    sizes = [
        [trainer.population.taken(s, step + 1) - trainer.population.taken(s, step) for s in range(4)]
        for step in range(6)
    ]
    assert np.sum(sizes, axis=0).tolist() == trainer.population.users.tolist()
    assert all(4 < sum(step) < 12 for step in sizes)  # 8, and less than one more or less of each shard


def test_of_few_users_several_midnights_each_are_held_out(rows: Path, tmp_path: Path) -> None:
    once, often = (
        Trainer(task_in(tmp_path / str(examples), rows, validation_users=examples)).population.held_out
        for examples in (95, 48 * 3)
    )
    assert len(often.midnights) == 3 * len(once.midnights) > 3 * 40
    assert len(often.sessions) == len(once.sessions)


def test_no_example_is_cut_before_its_varied_history_begins(rows: Path, tmp_path: Path) -> None:
    varied = {"crop": 0.9, "drop": 0.9, "jitter_seconds": 30 * 86_400.0}
    trainer = Trainer(task_in(tmp_path / "work", rows, augmentation=varied))
    batches = list(trainer.population.batches(AS_OF, epoch=1))
    assert sum(len(batch.cuts.length) for batch in batches) > 20
    for batch in batches:
        assert (batch.cuts.length > 0).all()
        assert (batch.cuts.days_since_last > 0).all()


def test_a_loss_that_is_no_number_ends_the_run(rows: Path, tmp_path: Path) -> None:
    trainer = Trainer(task_in(tmp_path / "work", rows))
    trainer.lost[:] = 1.0, np.nan, 8.0
    with pytest.raises(HalflifeError, match=r"diverged in epoch 1.*train\.learning_rate"):
        trainer._add_up()


@pytest.mark.parametrize(
    ("rule", "users", "rate"), [("sqrt", 256, 2e-3), ("linear", 256, 4e-3), ("none", 256, 1e-3), ("sqrt", 16, 5e-4)]
)
def test_the_learning_rate_follows_the_global_batch(rule: str, users: int, rate: float) -> None:
    train = TrainConfig.model_validate({"learning_rate": 1e-3, "learning_rate_scaling": rule, "users_per_batch": users})
    assert learning_rate(train) == pytest.approx(rate)


def test_the_learning_rate_warms_up_and_fades() -> None:
    train = TrainConfig(learning_rate=1e-3, warm_up_steps=20)
    rate = _optimizer(train, steps_planned=100)._learning_rate
    rates = [float(rate(step)) for step in (0, 5, 10, 20, 70, 120)]
    assert rates[:4] == pytest.approx([0.0, 2.5e-4, 5e-4, 1e-3], abs=1e-9)
    assert rates[4:] == pytest.approx([1e-3 * (0.05 + 0.95 * 0.5), 5e-5], rel=1e-4)


def test_the_next_batch_is_made_while_a_step_is_taken() -> None:
    begun = [threading.Event() for _ in range(3)]

    def batches() -> Iterator[Any]:
        for event in begun:
            event.set()
            yield event
        raise HalflifeError("the file is gone")

    taken = _made_ahead(batches())
    assert next(taken) is begun[0]
    assert begun[1].wait(10)
    assert list(islice(taken, 2)) == begun[1:]
    with pytest.raises(HalflifeError, match="the file is gone"):
        next(taken)


def test_a_task_travels_as_json(rows: Path, tmp_path: Path) -> None:
    task = with_keep(task_in(tmp_path / "work", rows))
    assert TrainingTask.read(task.write()) == task


def test_a_server_without_mlflow_is_an_error_before_training(rows: Path) -> None:
    section = {"train": {"mlflow_uri": "http://localhost:1"}}
    source = {"path": "-", "event_type": "buy", "columns": {"user": "u", "item": "i", "time": "t"}}
    rest = {"warehouse": "-", "sources": {"log": source}, "event_types": {"buy": {"weight": 1}}}
    config = launch.Config.model_validate({**rest, **section})
    with pytest.raises(ConfigError, match="MLflow is not installed"):
        launch._check(config)
