"""What each part of the model is worth: variants trained on one log with several seeds each; run by scripts/bench."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench_processes import BENCH, verdict
from bench_training import Table, cell, night_of, sessionized, task, trained, training_table, write_json
from rich.console import Console
from rich.table import Table as Shown

from halflife.synthetic import DOMAINS, generate

ITEMS, DAYS = 1_000, 365
LOG: Final[Mapping[str, Any]] = {
    "sessionize": {"sequence_length": 50},
    "model": {"half_life_days": 14.0, "vector_size": 16, "lstm_units": [32, 16]},
    # Batches so small that an epoch has 38 steps: with 10 the variants differ in how fast they learn.
    "train": {"epochs": 12, "patience": 4, "users_per_batch": 16, "tensorboard": None},
}
# What differs from the full model. One channel leaves nothing to stretch.
PARTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "full": {"model": {"stretch": True}},
    "no stretch": {"model": {"stretch": False}},
    "no memory": {"model": {"stretch": True, "memory": False}},
    "no attention": {"model": {"stretch": True, "attention": False}},
    "no time in attention": {"model": {"stretch": True, "attention_age": False}},
    "one channel": {"model": {"stretch": True, "half_lives_days": [30.0]}},
    "gru": {"model": {"stretch": True, "encoder": "gru"}},
    "transformer": {"model": {"stretch": True, "encoder": "transformer"}},
}
EXTRAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "default": {},
    "stretch": {"model": {"stretch": True}},
    "8 cuts a user": {"train": {"cuts_per_user": 8}},
    "crop .3": {"train": {"augmentation": {"crop": 0.3}}},
    "drop .1": {"train": {"augmentation": {"drop": 0.1}}},
    "jitter 10 min": {"train": {"augmentation": {"jitter_seconds": 600.0}}},
}
# Of strengths, and of the order of the next session's items where it is called so.
LOSSES: Final[Mapping[str, Mapping[str, Any]]] = {
    "likelihood and order": {},
    "likelihood": {"train": {"ranking_weight": 0.0}},
    "mse and order": {"train": {"loss": "mse"}},
    "mse": {"train": {"loss": "mse", "ranking_weight": 0.0}},
    "softmax": {"train": {"loss": "sampled_softmax", "ranking_weight": 0.0}},
    "likelihood + softmax": {"train": {"loss": {"point_process": 1.0, "sampled_softmax": 1}, "ranking_weight": 0.0}},
    "likelihood + mse": {"train": {"loss": {"point_process": 1.0, "mse": 1}, "ranking_weight": 0.0}},
}
VARIANTS: Final = {"parts": PARTS, "extras": EXTRAS, "losses": LOSSES}
FIGURES: Final = {
    "NDCG@10": "validation_ndcg_at_10",
    "recall@10": "validation_recall_at_10",
    "loss a user": "validation_loss",
    "R2": "validation_r2",
    "expected / observed": "validation_calibration",
    "seconds": "train_seconds",
}
LAW: Final = {"NDCG@10": "law_ndcg_at_10", "loss a user": "law_loss"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench ablation", description=__doc__)
    parser.add_argument("--what", choices=VARIANTS, default="parts", help="(default: %(default)s)")
    parser.add_argument("--only", help="variants to train, by name, with commas")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each variant (default: %(default)s)")
    parser.add_argument("--log", choices=DOMAINS, default="shop", help="synthetic log (default: %(default)s)")
    parser.add_argument("--users", type=int, default=600, help="of the synthetic log (default: %(default)s)")
    parser.add_argument("--warehouse", type=Path, metavar="CONFIG", help="instead: the config of a sessionized log")
    parser.add_argument("--as-of", type=date.fromisoformat, help="and its night")
    parser.add_argument("--json", type=Path, help="file for one object a variant")
    parser.add_argument("--check", action="store_true", help="exit code 1 where the full model loses to the half-life")
    options = parser.parse_args()
    if (options.warehouse is None) != (options.as_of is None):
        parser.error("--warehouse and --as-of go together")
    variants = VARIANTS[options.what]
    if options.only:
        variants = {name: variants[name] for name in options.only.split(",")}
    table = _table(options.log, options.users, options.warehouse, options.as_of)
    runs = _runs(table, variants, options.seeds)
    Console(width=140).print(_shown(runs))
    write_json(options.json, [{"bench": "ablation", "variant": name, "runs": found} for name, found in runs.items()])
    first = next(iter(runs.values()))
    ours, theirs = (float(np.mean([run[key] for run in first])) for key in ("validation_ndcg_at_10", "law_ndcg_at_10"))
    line, reached = verdict(f"NDCG@10 of {next(iter(runs))} / tuned half-life", ours / theirs, 1.0, at_least=True)
    print(line)
    if options.check and not reached:
        sys.exit(1)


def _table(domain: str, users: int, config: Path | None, as_of: date | None) -> Table:
    """The training table of the synthetic log, or of a sessionized one."""
    folder = BENCH / "ablation"
    if config is None or as_of is None:
        print(f"log: {domain}, {users:,} users, {ITEMS:,} items, {DAYS} days", file=sys.stderr)
        log = generate(DOMAINS[domain], users, ITEMS, DAYS)
        config, as_of = sessionized(log, folder / "log", **LOG), night_of(log)
    return training_table(config, as_of, folder / "table")


def _runs(table: Table, variants: Mapping[str, Mapping[str, Any]], seeds: int) -> dict[str, list[dict[str, float]]]:
    """Figures of each variant's runs, by its name."""
    names = [name for name in variants for _ in range(seeds)]
    tasks = [
        task(
            table,
            BENCH / "ablation" / "runs" / f"{name.replace(' ', '-')}-{seed}",
            variants[name].get("model", {}),
            {"seed": 7 + seed, **variants[name].get("train", {})},
        )
        for name in variants
        for seed in range(seeds)
    ]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for name, figures in zip(names, trained(tasks), strict=True):
        runs[name].append(figures)
        print(f"{name}: NDCG@10 {figures['validation_ndcg_at_10']:.4f}", file=sys.stderr)
    return runs


def _shown(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> Shown:
    """Mean of each figure, and its standard deviation over the seeds."""
    table = Shown(title="validation days: mean and standard deviation over seeds", title_justify="left")
    table.add_column("variant")
    for figure in FIGURES:
        table.add_column(figure, justify="right")
    for name, found in runs.items():
        table.add_row(name, *(cell([run[key] for run in found]) for key in FIGURES.values()))
    every = [run for found in runs.values() for run in found]
    half_lives = sorted({run["law_half_life_days"] for run in every})
    words = f"half-life tuned: {', '.join(f'{days:g}' for days in half_lives)} days"
    table.add_row(words, *(cell([run[LAW[figure]] for run in every]) if figure in LAW else "" for figure in FIGURES))
    return table


if __name__ == "__main__":
    main()
