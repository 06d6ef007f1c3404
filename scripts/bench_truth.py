"""Whether the model learns what is true of synthetic logs: half-lives, revivals, the law; run by scripts/bench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

from bench_processes import BENCH, spark_submit, verdict
from bench_training import night_of, sessionized, task, trained, training_table, write_json

from halflife import config as configuration
from halflife.model import artifact
from halflife.synthetic import DOMAINS, EXPONENTIAL, generate

# Channels around the half-lives of a domain, with room for the users' stretch on both sides, and a horizon in which
# they show: with one of a day nothing tells the two types of news apart (.48 for users and types, by a stretch that was
# another then).
CHANNELS: Final[Mapping[str, Mapping[str, Any]]] = {
    "shop": {"half_lives_days": [1.0, 3.0, 10.0, 30.0], "half_life_days": 10.0},
    "video": {"half_lives_days": [1.0, 3.0, 10.0, 30.0], "half_life_days": 7.0},
    "news": {"half_lives_days": [0.025, 0.1, 0.4, 1.6], "half_life_days": 0.4, "horizon_days": 0.25},
}
MODEL: Final[Mapping[str, Any]] = {"stretch": True, "vector_size": 16, "lstm_units": [32, 16]}
# The likelihood alone: the order of the next session's items makes memory too short and too small on logs that grow.
# Small batches and many examples of all of the year: types differ little where an epoch has 16 steps.
TRAIN: Final[Mapping[str, Any]] = {
    "epochs": 24,
    "patience": 8,
    "users_per_batch": 8,
    "cuts_per_user": 16,
    "recency_days": 365,
    "learning_rate_scaling": "none",
    "ranking_weight": 0.0,
    "tensorboard": None,
}
LEAST: Final = 0.8
LAW_ERROR: Final = 0.05


@dataclass(frozen=True)
class Size:
    """How large each log is, and the seed of its chances and of the training."""

    users: int
    items: int
    days: int
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench truth", description=__doc__)
    parser.add_argument("--only", default="shop,video,news,exponential", help="domains, with commas (default: all)")
    parser.add_argument("--users", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--items", type=int, default=1_000, help="(default: %(default)s)")
    parser.add_argument("--days", type=int, default=365, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of the log and of the training (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object a domain")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    size = Size(options.users, options.items, options.days, options.seed)
    reached, found = [], []
    for domain in options.only.split(","):
        print(f"{domain}: {size.users:,} users, {size.items:,} items, {size.days} days", file=sys.stderr)
        figures = law(size) if domain == EXPONENTIAL.name else learned(domain, size)
        found.append({"bench": "truth", "domain": domain, "seed": size.seed, **figures})
        print(f"{domain}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
        for line, passed in _verdicts(domain, figures):
            print(line)
            reached.append(passed)
    write_json(options.json, found)
    if options.check and not all(reached):
        sys.exit(1)


def learned(domain: str, size: Size) -> dict[str, float]:
    """What the trained model of a domain's log says, beside the truth."""
    folder, log = BENCH / "truth" / domain, generate(DOMAINS[domain], *astuple(size))
    model, train = {**MODEL, **CHANNELS[domain]}, {**TRAIN, "seed": size.seed}
    sections: dict[str, Any] = {"sessionize": {"sequence_length": 50}, "model": model, "train": train}
    config, night = sessionized(log, folder / "log", **sections), night_of(log)
    run = task(training_table(config, night, folder / "table"), folder / "run", {}, {})
    (figures,) = trained([run])
    cost = spark_submit("bench_truth_job.py", config, night, run.model_directory, events=len(log.events))
    chosen = ("validation_loss", "law_loss", "validation_ndcg_at_10", "law_ndcg_at_10", "train_seconds")
    return {**cost.found, **{name: figures[name] for name in chosen}}


def law(size: Size) -> dict[str, float]:
    """The half-life that the train job fits to the log of the classical law, from another start."""
    folder, log = BENCH / "truth" / EXPONENTIAL.name, generate(EXPONENTIAL, *astuple(size))
    model = {"kind": "exponential", "fit_half_life": True, "half_life_days": 90.0}
    config, night = sessionized(log, folder / "log", model=model), night_of(log)
    spark_submit("bench_job.py", config, night, "--job", "train", events=len(log.events))
    directory = Path(configuration.load(config).warehouse) / "models" / f"as_of={night}"
    (found,) = artifact.load(directory).half_lives_days
    return {"events": float(len(log.events)), "half_life_days": float(found), "true_days": EXPONENTIAL.half_life_days}


def _verdicts(domain: str, figures: Mapping[str, float]) -> list[tuple[str, bool]]:
    if domain == EXPONENTIAL.name:
        error = abs(figures["half_life_days"] / figures["true_days"] - 1)
        return [verdict("error of the fitted half-life", error, LAW_ERROR, at_least=False)]
    words = {
        "users_and_types": "rank correlation of half-lives, users and types",
        "users": "rank correlation of half-lives, users",
        "precision": "precision of revivals, against all true ones",
        "recall_planted": "recall of the planted revivals",
    }
    return [verdict(f"{domain}: {text}", figures[name], LEAST, at_least=True) for name, text in words.items()]


if __name__ == "__main__":
    main()
