"""The score stage of the nightly job in this process: read the states, score all pairs, audit and publish them.

Run by spark-submit; prints the seconds it took, from the answer to a trivial query on, those of its parts, and what
was published.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from bench_states import AS_OF, TYPES, States

from halflife import config
from halflife.command import Job
from halflife.model import artifact
from halflife.pipelines import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("users", type=int)
    parser.add_argument("folder", type=Path, help="of the states")
    options = parser.parse_args()
    states = States(options.users, options.folder)
    settings = config.Config.model_validate(
        {
            "warehouse": str(states.warehouse),
            "sources": {
                "log": {"path": "none", "event_type": TYPES[0], "columns": {"user": "u", "item": "i", "time": "t"}}
            },
            "event_types": {name: {"weight": 1.0} for name in TYPES},
        }
    )
    job = Job("score", AS_OF, settings, sys.stderr, until=AS_OF)
    job.spark.range(1).count()
    begin = time.perf_counter()
    store = job.warehouse
    opened = store.begin("score", AS_OF, {})
    assert opened is not None  # the warehouse has no such night
    with store.staged(opened) as run:
        for table, folder in states.tables().items():
            run.path(table).mkdir()
            for file in folder.iterdir():
                os.link(file, run.path(table) / file.name)
        model = artifact.load(store.path("models", AS_OF))
        _, totals = score.stage_scores(job, run, model)
        score.stage_trend(job, run, model, None, totals)
        scored = time.perf_counter()
        manifest = store.publish(run, {}, {})
    end = time.perf_counter()
    stages = {"score": round(scored - begin, 2), "publish": round(end - scored, 2)}
    stages |= {f"bytes of {name}": manifest["tables"][name]["bytes"] for name in ("scores", "recommendations")}
    stages["files"] = len(manifest["tables"]["scores"]["files"])
    print(json.dumps({"seconds": end - begin, "stages": stages}))


if __name__ == "__main__":
    main()
