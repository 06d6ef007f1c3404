"""Nights of a job in this process, as `jobs/JOB.py` runs them: with audit and publish.

Run by spark-submit; prints the seconds the first night took, from the answer to a trivial query on, those of its
stages, and the seconds of the nights that followed in the same JVM.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from importlib import import_module
from pathlib import Path

from halflife import config
from halflife.command import Job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("nights", type=date.fromisoformat, nargs="+")
    parser.add_argument("--job", default="sessionize")
    options = parser.parse_args()
    pipeline = import_module(f"halflife.pipelines.{options.job}")
    seconds, stages = [], []
    for night in options.nights:
        job = Job(options.job, night, config.load(options.config), sys.stderr, until=options.nights[-1])
        job.spark.range(1).count()
        begin = time.perf_counter()
        pipeline.run(job)
        seconds.append(time.perf_counter() - begin)
        stages.append(job.progress.seconds)
    print(json.dumps({"seconds": seconds[0], "stages": stages[0], "later": seconds[1:]}))


if __name__ == "__main__":
    main()
