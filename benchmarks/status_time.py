"""How long ``qwenctl status`` takes beside a bare interpreter, with or without a daemon.

Run from the repository's root: python -m benchmarks.status_time [runs]
"""

import statistics
import subprocess
import sys
import time

BARE = [sys.executable, "-c", "pass"]
STATUS = [sys.executable, "-m", "qwenctl", "status"]


def once(command: list[str]) -> float:
    """Return the seconds one run takes."""
    began = time.perf_counter()
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Run both in turns and print medians, quartiles and their ratio."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    pairs = [(once(BARE), once(STATUS)) for _ in range(runs)]
    for name, times in zip(("python -c pass", "qwenctl status"), zip(*pairs, strict=True), strict=True):
        low, middle, high = statistics.quantiles(times, n=4)
        print(f"{name:15} median {middle * 1000:6.1f} ms  quartiles {low * 1000:.1f} to {high * 1000:.1f}")
    print(f"ratio           median {statistics.median(b / a for a, b in pairs):6.2f}")


if __name__ == "__main__":
    main()
