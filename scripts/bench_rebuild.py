"""Whether nights one after the other give the scores of everyone encoded anew, on a real log; run by scripts/bench.

The raw log is copied by links, but for some records that are delivered a day late. One warehouse has three nights, of
which the second brings those records and the third catches up a night that was missed; the other has the third alone,
from the same raw log and model.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from bench_processes import BENCH, fresh_folder, spark_submit, verdict
from bench_training import write_json

from halflife import config as configuration
from halflife.warehouse import Warehouse

CLOSE: Final = 1e-6
NIGHTS: Final = (0, 1, 3)  # days after the first


@dataclass(frozen=True)
class Difference:
    """Between two tables of scores, row by row: how many rows, how many of other pairs, how many scores differ, and by
    how much at most."""

    rows: int
    other_pairs: int
    differ: int
    largest: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench rebuild", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("conf/local.yaml"), help="(default: %(default)s)")
    parser.add_argument(
        "--night", type=date.fromisoformat, default=date(2017, 12, 1), help="the first, trained (default: %(default)s)"
    )
    parser.add_argument("--late", type=int, default=200, help="records (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for one object")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    folder, nights = fresh_folder(BENCH / "rebuild"), [options.night + timedelta(days=days) for days in NIGHTS]
    source = delivered_late(options.config, folder / "raw", options.night, options.late)
    step_by_step = scored(options.config, folder / "nights", source, nights)
    at_once = scored(options.config, folder / "anew", source, nights[-1:])
    for night in nights:
        print(f"{night}: {_words(step_by_step, night)}")
    print(f"{nights[-1]} from scratch: {_words(at_once, nights[-1])}")
    found = difference(*(_files(store, nights[-1]) for store in (step_by_step, at_once)))
    shutil.rmtree(folder)
    print(f"{found.rows:,} pairs, of which {found.differ:,} differ")
    judged = [
        verdict("pairs that one of the tables has alone", found.other_pairs, 0, at_least=False),
        verdict("largest difference of a score", found.largest, CLOSE, at_least=False),
    ]
    print(*(line for line, _ in judged), sep="\n")
    write_json(options.json, [{"bench": "rebuild", "night": str(nights[-1]), **vars(found)}])
    if options.check and not all(reached for _, reached in judged):
        sys.exit(1)


def delivered_late(config: Path, folder: Path, night: date, records: int) -> dict[str, str]:
    """The first source's raw log in `folder`, with records of the day before a night in the next day's file.

    Returns the source's name and path. Its files have to be Parquet, with the day in their path.
    """
    name, source = next(iter(configuration.load(config).sources.items()))
    home = Path(source.path.partition("{date}")[0]).parent
    shutil.copytree(home, folder, copy_function=os.link)
    path = str(folder / Path(source.path).relative_to(home))
    (early, late) = (_only_file(path, night - timedelta(days=days)) for days in (1, 0))
    rows, later = (pq.ParquetFile(file).read() for file in (early, late))
    chosen = np.isin(np.arange(len(rows)), np.random.default_rng(7).permutation(len(rows))[:records])
    _rewrite(early, rows.filter(pa.array(~chosen)))
    _rewrite(late, pa.concat_tables([later, rows.filter(pa.array(chosen))]))
    return {name: path}


def _only_file(path: str, day: date) -> Path:
    pattern = Path(path.format(date=day))
    (file,) = pattern.parent.glob(pattern.name)
    return file


def _rewrite(file: Path, rows: pa.Table) -> None:
    file.unlink()  # a link: what is behind it stays
    pq.write_table(rows, file)


def scored(config: Path, folder: Path, source: dict[str, str], nights: Sequence[date]) -> Warehouse:
    """A warehouse of these nights alone, by the model that was trained for the config's own."""
    trained = Path(configuration.load(config).warehouse).absolute() / "_nights" / "train"
    (folder / "warehouse" / "_nights").mkdir(parents=True)
    (folder / "warehouse" / "_nights" / "train").symlink_to(trained)
    tree = {
        "extends": str(config.absolute()),
        "warehouse": str(folder / "warehouse"),
        "sources": {name: {"path": path} for name, path in source.items()},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    for job in ("sessionize", "score"):
        print(f"{job} {', '.join(map(str, nights))}", file=sys.stderr)
        spark_submit("bench_job.py", path, *nights, "--job", job, events=1)
    return Warehouse(folder / "warehouse")


def _words(store: Warehouse, night: date) -> str:
    manifest: Any = store.manifest("score", night)
    encoded, skipped = (manifest["metrics"][name] for name in ("encoded", "skipped"))
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in manifest["seconds"].items())
    return f"{encoded:,} users encoded, {skipped:,} carried over; {stages}"


def _files(store: Warehouse, night: date) -> list[Path]:
    return [file.path for file in store.files("scores", night)]


def difference(these: Sequence[Path], those: Sequence[Path]) -> Difference:
    """Between the files of two tables of scores, both sorted by user and item, whatever the files are called."""
    query = """SELECT count(*), count_if(a.user_id IS DISTINCT FROM b.user_id OR a.item_id IS DISTINCT FROM b.item_id),
        count_if(a.score IS DISTINCT FROM b.score), max(abs(a.score - b.score))
        FROM read_parquet(?) a POSITIONAL JOIN read_parquet(?) b"""
    files = [[str(file) for file in sorted(each, key=_first_user)] for each in (these, those)]
    with duckdb.connect() as database:
        found = database.execute(query, files).fetchone()
    assert found is not None  # an aggregate without groups has one row
    return Difference(*found)


def _first_user(scores: Path) -> str:
    first: str = pq.ParquetFile(scores).read_row_group(0, columns=["user_id"])["user_id"][0].as_py()
    return first


if __name__ == "__main__":
    main()
