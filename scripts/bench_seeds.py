"""How the figures of a night depend on the seed: trained, scored and judged with several; run by scripts/bench.

Reads the nights that a warehouse has sessionized, and writes everything else into one of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from bench_processes import BENCH, fresh_folder, spark_submit, verdict
from bench_training import cell, write_json
from rich.console import Console
from rich.table import Table

from halflife import config as configuration

OURS, LAW = "halflife", "half_life_tuned"
FIGURES: Final = ("ndcg@10", "recall@10", "log_loss", "calibration_error", "auc", "strength_r2")
LEAD: Final = 1.05
CALIBRATION_ERROR: Final = 0.02

Figures = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench seeds", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("conf/local.yaml"), help="(default: %(default)s)")
    parser.add_argument("--night", type=date.fromisoformat, default=date(2017, 12, 1), help="(default: %(default)s)")
    parser.add_argument(
        "--as-of", type=date.fromisoformat, default=date(2018, 1, 2), help="what is known then (default: %(default)s)"
    )
    parser.add_argument("--seeds", default="1,2,3", help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object a seed")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    found: dict[int, Figures] = {}
    for seed in map(int, options.seeds.split(",")):
        print(f"seed {seed}", file=sys.stderr)
        found[seed] = judged(options.config, options.night, options.as_of, seed)
        print(f"seed {seed}: " + _words(found[seed][OURS]), file=sys.stderr)
    Console(width=140).print(_table(list(found.values())))
    write_json(options.json, [{"bench": "seeds", "seed": seed, **figures} for seed, figures in found.items()])
    judgements = verdicts(list(found.values()))
    print(*(line for line, _ in judgements), sep="\n")
    if options.check and not all(reached for _, reached in judgements):
        sys.exit(1)


def judged(config: Path, night: date, as_of: date, seed: int) -> Figures:
    """Figures of the model of a seed and of the baselines that are probabilities, by their names."""
    folder = fresh_folder(BENCH / "seeds")
    warehouse, sessionized = folder / "warehouse", Path(configuration.load(config).warehouse).absolute()
    (warehouse / "_nights").mkdir(parents=True)
    (warehouse / "_nights" / "sessionize").symlink_to(sessionized / "_nights" / "sessionize")
    baselines = [LAW, "popularity", "constant_rate"]  # the others take minutes, and know no seed
    tree = {
        "extends": str(config.absolute()),
        "warehouse": str(warehouse),
        "train": {"seed": seed, "gate": "off", "tensorboard": None},
        "evaluate": {"baselines": baselines},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    for job, known in (("train", night), ("score", night), ("evaluate", as_of)):
        spark_submit("bench_job.py", path, known, "--job", job, events=1)
    (metrics,) = (warehouse / "evaluation").glob("as_of=*/metrics.json")
    return figures_of(json.loads(metrics.read_text(encoding="utf-8")))


def figures_of(rows: Sequence[Mapping[str, Any]]) -> Figures:
    """Rows of the metrics table, of all users and pairs, by model."""
    found: Figures = {}
    for row in rows:
        if row["segment"] == "all" and not row.get("baseline") and row["metric"] in FIGURES:
            found.setdefault(row["model"], {})[row["metric"]] = row["value"]
    return found


def _table(found: Sequence[Figures]) -> Table:
    """Mean of each figure, and its standard deviation over the seeds."""
    table = Table(title="mean and standard deviation over seeds", title_justify="left")
    for column in ("model", *FIGURES):
        table.add_column(column)
    for model in found[0]:
        values = ([figures[model].get(name) for figures in found] for name in FIGURES)
        table.add_row(model, *("" if None in each else cell(each) for each in values))
    return table


def verdicts(found: Sequence[Figures]) -> list[tuple[str, bool]]:
    """Of the means over seeds: rankings beside the tuned half-life, strengths and probabilities beside baselines."""

    def mean(model: str, name: str) -> float:
        return float(np.mean([figures[model][name] for figures in found]))

    lead = [
        verdict(f"{name} / tuned half-life", mean(OURS, name) / mean(LAW, name), LEAD, at_least=True)
        for name in FIGURES[:2]
    ]
    best = min(mean(model, "log_loss") for model in found[0] if model != OURS and "log_loss" in found[0][model])
    return [
        *lead,
        verdict("R2 of interest strength", mean(OURS, "strength_r2"), mean(LAW, "strength_r2"), at_least=True),
        verdict("log loss", mean(OURS, "log_loss"), best, at_least=False),
        verdict("calibration error", mean(OURS, "calibration_error"), CALIBRATION_ERROR, at_least=False),
    ]


def _words(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())


if __name__ == "__main__":
    main()
