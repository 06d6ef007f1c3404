"""Watch the memory of a process and all its children, and keep the peak in a file until told to stop.

Shared pages count once (proportional set size), so forked workers are not counted twice.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import psutil

EVERY_SECONDS = 1.0


def bytes_in_use(root: psutil.Process) -> int:
    """Memory of a process and its children now."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # it has just ended
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("process", type=int)
    parser.add_argument("file", type=Path, help="where the peak is kept, in bytes")
    options = parser.parse_args()
    root = psutil.Process(options.process)
    peak = 0
    while root.is_running():
        peak = max(peak, bytes_in_use(root))
        options.file.write_text(str(peak))
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main()
