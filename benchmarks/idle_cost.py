"""What keeping costs while nothing happens: memory, CPU, wake-ups, beside other keepers.

    KEEPERS=FOLDER_OF_SUPERVISORD_AND_CIRCUSD python -m benchmarks.idle_cost [--seconds 60]

Wake-ups are voluntary context switches of all threads. The server's own are not counted.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.lib import keepers
from benchmarks.recovery import command_line

KEEPERS: dict[str, keepers.Keeper] = {
    "qwenctl": keepers.qwenctl,
    "supervisord": keepers.supervisord,
    "circus": keepers.circus,
}
SETTLE_S = 5.0


class Reading(NamedTuple):
    """What a process has used up to a time."""

    at: float
    cpu_s: float
    switches: int


def read(process: psutil.Process) -> Reading:
    """Take a reading."""
    times = process.cpu_times()
    switches = 0
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        switches += int(fields["voluntary_ctxt_switches"])
    return Reading(time.monotonic(), times.user + times.system, switches)


def main() -> None:
    """Measure one keeper after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        folder = Path(base)
        argv = command_line(folder)
        for name, keeper in KEEPERS.items():
            with keepers.keeping(keeper, argv, folder / name) as running:
                time.sleep(SETTLE_S)
                process = running.keeper()
                before = read(process)
                time.sleep(arguments.seconds)
                after = read(process)
                memory = process.memory_full_info()
            seconds = after.at - before.at
            cpu = (after.cpu_s - before.cpu_s) / seconds * 3600
            wakes = (after.switches - before.switches) / seconds
            print(
                f"{name}: RSS {memory.rss / 1e6:.1f} MB (own {memory.uss / 1e6:.1f}), "
                f"{cpu:.1f} CPU s an hour, {wakes:.2f} wake-ups a second",
                flush=True,
            )


if __name__ == "__main__":
    main()
