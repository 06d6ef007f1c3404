"""Write a synthetic log: python -m halflife.synthetic shop --users 1000 --days 180 --seed 7 --out FOLDER."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path

from halflife.synthetic import DOMAINS, generate


def main() -> None:
    """Write the log that the arguments ask for, and say what it holds."""
    parser = argparse.ArgumentParser(prog="python -m halflife.synthetic", description="Write a log with known truth.")
    parser.add_argument("domain", choices=DOMAINS)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    log = generate(DOMAINS[options.domain], options.users, options.items, options.days, options.seed)
    log.write(options.out)
    as_of = log.first_day + timedelta(days=options.days)
    print(f"{options.out}: {len(log.events):,} events of {options.users:,} users from {log.first_day} on; next:")
    print(f"scripts/submit sessionize --config {options.out}/config.yaml --as-of {as_of}")


if __name__ == "__main__":
    main()
