"""How long a killed server is away: from SIGKILL to the first 200 from /health, beside other keepers.

    KEEPERS=FOLDER_OF_SUPERVISORD_AND_CIRCUSD python -m benchmarks.recovery [--kills 20] [--only NAME]

All keep the same command line on the demo model, taking turns, so that the machine is the same for all.
systemd needs root and util-linux' unshare.
"""

import argparse
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.lib import keepers

TURNS = 4
CALM_S = 0.3
KEEPERS: dict[str, keepers.Keeper] = {
    "qwenctl": keepers.qwenctl,
    "shell loop": keepers.shell_loop,
    "systemd RestartSec=0": keepers.systemd("RestartSec=0\n"),
    "systemd default": keepers.systemd(""),
    "supervisord": keepers.supervisord,
    "circus": keepers.circus,
}


def command_line(folder: Path) -> list[str]:
    """Return the command line that all keep, without our gate; the demo model is made on the way."""
    environment = os.environ | {"HOME": str(folder), "PYTHONPATH": str(keepers.ROOT)}
    environment |= {"QWENCTL_SERVER__PORT": str(keepers.free_port()), "QWENCTL_GATE__ENABLED": "false"}
    base = [sys.executable, "-m", "qwenctl", "--profile", "demo"]
    subprocess.run([*base, "up"], env=environment, check=True, capture_output=True, cwd=folder)
    subprocess.run([*base, "down"], env=environment, check=True, capture_output=True, cwd=folder)
    said = subprocess.run(
        [*base, "argv", "--shell"], env=environment, check=True, capture_output=True, text=True, cwd=folder
    )
    return shlex.split(said.stdout)


def by_hand(argv: list[str], kills: int) -> list[float]:
    """Start it again with nothing in between: what any keeper could reach."""
    port = int(argv[argv.index("--port") + 1])
    times = []
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(kills):
        keepers.until_healthy(port)
        time.sleep(CALM_S)
        begun = time.perf_counter()
        server.kill()
        server.wait()
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(keepers.until_healthy(port) - begun)
    server.kill()
    server.wait()
    return times


def kept(keeper: keepers.Keeper, argv: list[str], folder: Path, kills: int) -> list[float]:
    """Kill the server of a keeper again and again."""
    times = []
    with keepers.keeping(keeper, argv, folder) as running:
        for _ in range(kills):
            keepers.until_healthy(running.port)
            time.sleep(CALM_S)
            pid = keepers.server_pid(running.process)
            begun = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            times.append(keepers.until_healthy(running.port) - begun)
    return times


def main() -> None:
    """Measure and print medians with their quartiles, in ms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    wanted = {name: keeper for name, keeper in KEEPERS.items() if arguments.only in (None, name)}
    times: dict[str, list[float]] = {"by hand": [], **{name: [] for name in wanted}}
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        folder = Path(base)
        argv = command_line(folder)
        for turn in range(TURNS):
            times["by hand"] += by_hand(argv, arguments.kills // TURNS)
            for name, keeper in wanted.items():
                own = folder / f"{name.replace(' ', '-').replace('=', '-')}-{turn}"
                times[name] += kept(keeper, argv, own, arguments.kills // TURNS)
    for name, seen in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        first, middle, third = statistics.quantiles([1000 * one for one in seen], n=4)
        print(f"{name}: median {middle:.0f} ms (quartiles {first:.0f} to {third:.0f}), n={len(seen)}")


if __name__ == "__main__":
    main()
