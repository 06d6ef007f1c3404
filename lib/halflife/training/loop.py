"""The training function that every Horovod rank runs, whoever launched it.

Epochs up to the validation days, the best of them kept, the champion met, and then the held-out days caught up on;
population.py says what a batch is, step.py what a step does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import horovod.tensorflow as hvd
import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halflife.decay import SECONDS_PER_DAY
from halflife.errors import HalflifeError
from halflife.model import artifact
from halflife.model.artifact import Model
from halflife.model.batch import Batch
from halflife.training import law
from halflife.training.champion import Contestant
from halflife.training.checkpoint import Checkpoints, Position
from halflife.training.initial import follow_counts, new_network, start_network
from halflife.training.population import Population
from halflife.training.ranks import common_digest, largest, summed, use_one_core
from halflife.training.step import Step
from halflife.training.task import ProgressFile, RankResult, TrainingTask
from halflife.training.tracking import Tracker
from halflife.training.validation import Validator, figures

STEPS_PER_REPORT = 10
# Told of the weights that have caught up, on the days that these have seen.
CAUGHT_UP = ("validation_objective", "validation_loss", "validation_ndcg_at_10")


def train_rank(task: TrainingTask) -> RankResult:
    """Train on this rank's shards; rank 0 publishes the model into `task.model_directory`."""
    hvd.init()
    use_one_core()
    keras.utils.set_random_seed(task.train.seed)
    begin = time.monotonic()
    trainer = Trainer(task)
    metrics = trainer.run()
    metrics["train_seconds"] = time.monotonic() - begin
    digest = common_digest(trainer.network)
    trainer.publish(metrics)
    return RankResult(hvd.rank(), metrics, digest)


class Trainer:
    """The state of one rank's training."""

    def __init__(self, task: TrainingTask) -> None:
        self.task = task
        self.items = pd.read_parquet(task.items)
        self.progress = ProgressFile(task.progress_file if hvd.rank() == 0 else None)
        self.tracker = Tracker(task) if hvd.rank() == 0 else None
        self.population = Population(task, len(self.items))
        self.network = new_network(task.model, self.items, len(task.event_types), task.sequence_length)
        start_network(self.network, self.population.counts, task.model.half_life_days)
        self.steps = self.population.steps
        self.step = Step(self.network, task, self._steps_planned())
        self.validator = Validator(self.network, task.train)
        self.best: list[NDArray[Any]] = []
        self.at = Position()
        self.lost = np.zeros(3)  # both losses and examples of this rank that are not in the position yet
        self.checkpoints = None if task.keep is None else Checkpoints(task.keep)
        self._resume()

    def run(self) -> dict[str, float]:
        """Train until the held-out days are foreseen no better, keep the best epoch, and catch up on those days."""
        at = self.at
        if not at.start:
            at.start = at.best = self._validate()
            self.best = self._copy()
        law_figures = self._law_figures()
        while not at.catching_up:
            self._pass(self.task.validation_start)
            self._end_epoch()
        while at.epoch <= at.epochs_learned + self.task.train.catch_up_epochs:
            self._pass(self.task.as_of_seconds)
            self._next_epoch()
            self._save()
        rivals = {**law_figures, **at.duel, **self._settle()}
        if self.tracker is not None:
            self.tracker.figures(self._steps_done(), rivals)
            self.tracker.end()
        start = {f"start_{name.removeprefix('validation_')}": value for name, value in at.start.items()}
        ends = {"epochs": float(at.epochs_learned), "best_epoch": float(at.best_epoch)}
        return {**start, **at.best, **rivals, **at.trained, **ends}

    def publish(self, metrics: dict[str, float]) -> None:
        """Write the model on rank 0, and read it once the way the nightly job will."""
        task, stretch = self.task, self.population.stretches(self.network, self.task.as_of_seconds)
        if hvd.rank() == 0:
            told = {name: value for name, value in metrics.items() if name != "train_seconds"}
            self._saved(task.model_directory, task.as_of_seconds, stretch, told)

    def _saved(
        self, directory: Path, as_of_seconds: float, stretch: NDArray[np.float32] | None, metrics: dict[str, float]
    ) -> Model:
        """The network as it is now, written into a new directory and read from there."""
        artifact.save(
            directory,
            architecture=self.network.architecture,
            weights=self.network.weights_for_scoring(),
            items=self.items,
            event_types=self.task.event_types,
            as_of_seconds=as_of_seconds,
            metrics=metrics,
            config=self.task.config,
            stretch=stretch,
        )
        return artifact.load(directory)

    def _law_figures(self) -> dict[str, float]:
        """The tuned half-life on the validation days."""
        users, horizon = self.population, self.task.model.horizon_days
        counts = users.counts_before_tuning, users.counts
        before, now = (np.exp(count.log_rates[:-1]) * horizon for count in counts)
        grid = self.task.train.gate_half_lives_days
        found = law.tuned(users.tuning, users.held_out, (before, now), grid, horizon, summed)
        return {"law_half_life_days": found.half_life_days, "law_loss": found.loss, "law_ndcg_at_10": found.ndcg}

    def _duel(self) -> dict[str, float]:
        """The champion and this network on the held-out days that neither has seen; empty without a champion.

        Both know all days before those, and both are read from files and score as at night: the network catches up as
        far as the champion has, is written aside, and is put back to what it was. So what is published does not depend
        on the rival, and a model does not lose for having held out days that its rival had learned from.
        """
        task = self.task
        if task.champion is None:
            return {}
        before = [variable.numpy() for variable in self.step.variables()]
        if task.unseen_start > task.validation_start:
            self._catch_up_aside(task.unseen_start)
        with TemporaryDirectory() as folder:
            stretch = self.population.stretches(self.network, task.unseen_start)
            model = self._saved(Path(folder) / "model", task.unseen_start, stretch, {})
        for variable, value in zip(self.step.variables(), before, strict=True):
            variable.assign(value)
        return {
            **self._unseen_figures("champion", artifact.load(task.champion.folder)),
            **self._unseen_figures("challenger", model),
            "challenge_days": (task.as_of_seconds - task.unseen_start) / SECONDS_PER_DAY,
        }

    def _unseen_figures(self, name: str, model: Model) -> dict[str, float]:
        scored = Contestant(model, self.items, self.task.model.horizon_days)
        loss, midnights, ndcg, sessions = summed(scored.sums(self.population.unseen))
        return {f"{name}_loss": loss / max(midnights, 1.0), f"{name}_ndcg_at_10": ndcg / max(sessions, 1.0)}

    def _catch_up_aside(self, end_seconds: float) -> None:
        """Catch up on the days before `end_seconds` as on all days at the end, but for checkpoints and position.

        A run that is killed meanwhile goes on from its last epoch.
        """
        learned = self.at.epoch
        self.progress.report("train", self._steps_done(), self._steps_planned(), "catches up to meet the champion")
        self._count_held_out_days(end_seconds)
        for epoch in range(learned + 1, learned + 1 + self.task.train.catch_up_epochs):
            for step, batch in enumerate(_made_ahead(self.population.batches(end_seconds, epoch))):
                self.step.take(batch, epoch, step)

    def _settle(self) -> dict[str, float]:
        """Take back what catching up has done where the held-out days are foreseen worse for it, by the objective.

        The gate judges the weights from before. To judge those from after, newer days would have to be held out, and
        what is published would know nothing of them; days that were just learned from show at least that nothing
        went wrong.
        """
        best, now = self.at.best, self._validate()
        caught_up = now["validation_objective"] <= best["validation_objective"]
        if not caught_up:
            self._restore(self.best)
            words = (
                "after catching up on the held-out days they are foreseen worse (objective "
                f"{now['validation_objective']:.4f}, before {best['validation_objective']:.4f}): "
                "the weights from before are taken"
            )
            self.progress.report("train", self._steps_done(), self._steps_planned(), words)
        seen = {f"caught_up_{name.removeprefix('validation_')}": now[name] for name in CAUGHT_UP}
        return {"caught_up": float(caught_up), **seen}

    def _steps_planned(self) -> int:
        return self.steps * (self.task.train.epochs + self.task.train.catch_up_epochs)

    def _steps_done(self) -> int:
        return (self.at.epoch - 1) * self.steps + self.at.step

    def _pass(self, end_seconds: float) -> None:
        """Take the steps that are left of the epoch, on examples whose targets end by `end_seconds`."""
        at, every = self.at, self.task.train.checkpoint_steps
        for batch in _made_ahead(self.population.batches(end_seconds, at.epoch, at.step)):
            self.lost += self.step.take(batch, at.epoch, at.step)
            at.step += 1
            if at.step % STEPS_PER_REPORT == 0 or at.step == self.steps:
                losses = _words(_means(np.array([at.loss, at.order_loss, at.examples]) + self.lost))
                self.progress.report("train", self._steps_done(), self._steps_planned(), f"epoch {at.epoch}, {losses}")
            if at.step % every == 0 and at.step < self.steps:
                self._save()
        self._add_up()

    def _end_epoch(self) -> None:
        """Validate, keep the best weights, and go on to the next epoch or to catching up."""
        train, at = self.task.train, self.at
        at.trained = _means(np.array([at.loss, at.order_loss, at.examples]))
        now = self._validate()
        self._say(now)
        # What training makes small: the likelihood alone would stop before the order of items is learned.
        if now["validation_objective"] < at.best["validation_objective"]:
            self.best, at.best, at.best_epoch = self._copy(), now, at.epoch
        over = at.epoch == train.epochs or at.epoch - at.best_epoch >= train.patience
        if over:
            at.epochs_learned, at.catching_up = at.epoch, True
            self._restore(self.best)
            at.duel = self._duel()
            self._count_held_out_days(self.task.as_of_seconds)
        self._next_epoch()
        self._save()

    def _next_epoch(self) -> None:
        at = self.at
        at.epoch, at.step, at.loss, at.order_loss, at.examples = at.epoch + 1, 0, 0.0, 0.0, 0.0

    def _validate(self) -> dict[str, float]:
        return figures(summed(self.validator.sums(self.population.held_out)), self.task.train.ranking_weight)

    def _count_held_out_days(self, end: float) -> None:
        """Let new items and new habits of the held-out days before `end` into the model."""
        follow_counts(self.network, self.population.counts, self.population.counts_until(end))

    def _say(self, now: dict[str, float]) -> None:
        message = (
            f"epoch {self.at.epoch} of {self.task.train.epochs}: {_words(self.at.trained)}; validation loss "
            f"{now['validation_loss']:.4f}, objective {now['validation_objective']:.4f}, NDCG@10 "
            f"{now['validation_ndcg_at_10']:.4f}"
        )
        curve = {**self.at.trained, **now}
        self.progress.report("train", self._steps_done(), self._steps_planned(), message, curve)
        if self.tracker is not None:
            self.tracker.figures(self._steps_done(), curve)

    def _add_up(self) -> None:
        """Bring this rank's losses into the position, which is the same on all ranks."""
        loss, order_loss, examples = summed(self.lost)
        if not math.isfinite(loss + order_loss):
            raise HalflifeError(
                f"training diverged in epoch {self.at.epoch}: the loss is no number any more; lower "
                f"train.learning_rate ({self.task.train.learning_rate:g}) or train.clip_norm, and run again"
            )
        at = self.at
        at.loss, at.order_loss, at.examples = at.loss + loss, at.order_loss + order_loss, at.examples + examples
        self.lost = np.zeros(3)

    def _save(self) -> None:
        """Write a checkpoint, on rank 0; all ranks come by here after the same steps."""
        self._add_up()
        if self.checkpoints is not None and hvd.rank() == 0:
            now = {f"now/{place:03}": variable.numpy() for place, variable in enumerate(self.step.variables())}
            best = {f"best/{place:03}": value for place, value in enumerate(self.best)}
            self.checkpoints.save(self.at, {**now, **best})

    def _resume(self) -> None:
        """Go on from the checkpoint that is there, or start with equal weights. Every rank reads it by itself."""
        found = None if self.checkpoints is None else self.checkpoints.load()
        steps = -1 if found is None else found[0].epoch * self.steps + found[0].step
        if largest(steps) != -largest(-steps):
            raise HalflifeError(f"{self.task.keep}: the ranks see different checkpoints; is the folder shared by all?")
        variables = self.step.variables()
        if found is None:
            hvd.broadcast_variables([v for v in variables if v.dtype.is_floating], root_rank=0)
            return
        self.at, arrays = found
        for place, variable in enumerate(variables):
            variable.assign(arrays[f"now/{place:03}"])
        self.best = [arrays[name] for name in sorted(arrays) if name.startswith("best/")]
        self.progress.report(
            "train", self._steps_done(), self._steps_planned(), f"goes on from a checkpoint: {self.at.words}"
        )

    def _copy(self) -> list[NDArray[Any]]:
        return [weight.numpy() for weight in self.network.weights]

    def _restore(self, weights: list[NDArray[Any]]) -> None:
        for variable, value in zip(self.network.weights, weights, strict=True):
            variable.assign(value)


def _made_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, the next one made while a step is taken: it waits for other ranks, or for a GPU."""
    with ThreadPoolExecutor(1, "feed") as feeder:
        coming = feeder.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = feeder.submit(next, batches, None)
            yield batch


def _means(sums: NDArray[np.float64]) -> dict[str, float]:
    """Both training losses of an example, from their sums and the number of examples."""
    loss, order_loss, examples = sums
    return {"train_loss": float(loss / max(examples, 1.0)), "train_order_loss": float(order_loss / max(examples, 1.0))}


def _words(means: dict[str, float]) -> str:
    return f"loss {means['train_loss']:.4f} and {means['train_order_loss']:.4f} of the order of items"
