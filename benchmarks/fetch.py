"""Measure fetching against a hub on loopback, beside `hf download` and curl.

Three tables: 1 GB as fast as it goes; 20 kills; 1 % of requests failing and 50 ms of latency. Nothing leaves
the machine. Needs curl, openssl and the hf command beside this interpreter.
Run from the repository's root: python -m benchmarks.fetch
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import REPO, FakeHub

ROOT = Path(__file__).parents[1]

MIB = 2**20
FETCH = """
import asyncio, sys
from pathlib import Path
from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.request import FetchRequest, WantedFile
request = FetchRequest(sys.argv[1], (WantedFile("m.gguf"),), architecture="qwen35")
asyncio.run(fetch(request, lambda _progress: None, state_dir=Path(sys.argv[2]) / "state"))
"""


@contextmanager
def hub(folder: Path, *options: str) -> Iterator[str]:
    """Run the hub in a process of its own and give its address."""
    command = [sys.executable, "-m", "tests.fakes.hub", str(folder), *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().split()[0]
        try:
            yield endpoint
        finally:
            process.terminate()


def qwenctl(endpoint: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a verified fetch into ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, REPO, str(folder)],
        cwd=ROOT,
        env=os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home")},
    )


def hf(endpoint: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start an unverified download by huggingface_hub."""
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("hf")), "download", REPO, "m.gguf", "-q"],
        env=os.environ
        | {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def curl(endpoint: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start curl, with its own retries, over one connection."""
    url = f"{endpoint}/{REPO}/resolve/main/m.gguf"
    options = "--silent --show-error --fail --location --retry 20 --retry-all-errors".split()
    return subprocess.Popen([shutil.which("curl") or "curl", *options, "-o", str(folder / "m.gguf"), url])


def openssl(_endpoint: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start hashing what curl brought."""
    command = [shutil.which("openssl") or "openssl", "dgst", "-sha256", str(folder / "m.gguf")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def sync(_endpoint: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start writing what curl brought to the disk for good, as qwenctl does before it says done."""
    return subprocess.Popen([shutil.which("sync") or "sync", str(folder / "m.gguf")])


Starter = Callable[[str, Path], subprocess.Popen[bytes]]
TOOLS: dict[str, tuple[Starter, ...]] = {
    "qwenctl, verified": (qwenctl,),
    "hf download, unverified": (hf,),
    "curl, unverified": (curl,),
    "curl, then openssl dgst": (curl, openssl),
    "curl, then sync, then openssl": (curl, sync, openssl),
}


def measure(starters: tuple[Starter, ...], endpoint: str, place: Path) -> tuple[float, int]:
    """Return seconds and the largest resident size in bytes of one run into an empty folder."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        peak = 0
        begun = time.perf_counter()
        for start in starters:
            process = start(endpoint, folder)
            watched = psutil.Process(process.pid)
            while process.poll() is None:
                try:
                    peak = max(peak, watched.memory_info().rss)
                except psutil.NoSuchProcess:
                    break
                time.sleep(0.01)
            assert process.wait() == 0
        return time.perf_counter() - begun, peak


def compare(tools: list[str], endpoint: str, place: Path, runs: int) -> None:
    """Print medians and spread; the tools take turns, so that what the machine does meets all of them."""
    results: dict[str, list[tuple[float, int]]] = {tool: [] for tool in tools}
    for tool in tools:
        measure(TOOLS[tool], endpoint, place)
    for _ in range(runs):
        for tool in tools:
            results[tool].append(measure(TOOLS[tool], endpoint, place))
    for tool, measured in results.items():
        seconds = [second for second, _ in measured]
        print(
            f"  {tool:32} {statistics.median(seconds):6.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})"
            f"  peak {max(peak for _, peak in measured) / MIB:.0f} MiB"
        )


def kill_it(source: Path, place: Path, seed: int) -> None:
    """Kill a fetch 20 times at random moments and print what moved twice."""
    dice = random.Random(seed)
    size = source.stat().st_size
    with FakeHub({"m.gguf": source}) as fake, tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        kills = 0
        for _ in range(20):
            sent = fake.bytes_sent
            process = qwenctl(fake.endpoint, folder)
            goal = dice.random() * size / 15
            while fake.bytes_sent < sent + goal and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        assert qwenctl(fake.endpoint, folder).wait() == 0
        twice = fake.bytes_sent - size
        allowed = kills * 4 * 8 * MIB
        print(f"  {kills} kills of {size / 1e9:.2f} GB: {twice / MIB:.0f} MiB sent twice,", end=" ")
        print(f"{allowed / MIB:.0f} MiB would be a range for each connection and kill")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()), help="where files arrive")
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    chosen = parser.parse_args()
    print(f"{os.cpu_count()} cores, {sys.platform}, files to {chosen.place}, seed {chosen.seed}")
    with tempfile.TemporaryDirectory() as name:
        source = write_gguf(Path(name) / "m.gguf", bytes_=chosen.mb * 1_000_000)
        print(f"{source.stat().st_size} bytes, medians of {chosen.runs} after a warm-up (least to most)")
        with hub(source.parent) as endpoint:
            compare(list(TOOLS), endpoint, chosen.place, chosen.runs)
        print("1 % of requests fail (503), 50 ms of latency on each")
        with hub(source.parent, "--latency-ms", "50", "--fail-share", "0.01") as endpoint:
            compare(["qwenctl, verified", "curl, unverified"], endpoint, chosen.place, chosen.runs)
        print("SIGKILL at random moments")
        kill_it(source, chosen.place, chosen.seed)


if __name__ == "__main__":
    main()
