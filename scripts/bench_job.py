"""One night of the sessionize job in this process, as `jobs/sessionize.py` runs it: with audit and publish.

Run by spark-submit; prints the seconds it took, from the answer to a trivial query on, and those of its stages.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path

from halflife import config
from halflife.command import Job
from halflife.pipelines import sessionize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("as_of", type=date.fromisoformat)
    options = parser.parse_args()
    job = Job("sessionize", options.as_of, config.load(options.config), sys.stderr, until=options.as_of)
    job.spark.range(1).count()
    begin = time.perf_counter()
    sessionize.run(job)
    print(json.dumps({"seconds": time.perf_counter() - begin, "stages": job.progress.seconds}))


if __name__ == "__main__":
    main()
