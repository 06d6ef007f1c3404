"""What a training run reads, from a sessionized night: FOLDER/rows, one row a user, and FOLDER/items.parquet.

Run by spark-submit; the last line that it prints is what spark-submit's caller expects.
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
from halflife.transformations import sequences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("as_of", type=date.fromisoformat)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    job = Job("train", options.as_of, config.load(options.config), sys.stderr, until=options.as_of)
    begin = time.perf_counter()
    events = job.warehouse.read(job.spark, "events", options.as_of)
    histories = sequences.last_events(events, job.config.train.history_length)
    # In one order, so that a seed gives one model; in as many files as the shards need.
    ordered = histories.repartition(job.config.train.shards, "user_index").sortWithinPartitions("user_index")
    ordered.write.parquet(str(options.folder / "rows"))
    items = job.warehouse.read(job.spark, "items", options.as_of).orderBy("item_index").toPandas()
    items[["item_index", "item_id", "category"]].to_parquet(options.folder / "items.parquet", index=False)
    print(json.dumps({"seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
