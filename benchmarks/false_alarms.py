"""Is a busy server ever ended, and is every wedged or sick one found? Through the real daemon.

Run from the repository's root:
python -m benchmarks.false_alarms [--minutes 30] [--wedge-after 10] [--parallel 1] [--finds 1]
First 1 to 64 clients of all kinds ask a real small model for so many minutes: chats, streams, long prompts,
clients that leave, and 5 % of requests that deserve their error. Nothing may be ended. Then the server is
stopped, hung or made sick again and again, with clients that wait and with clients that leave: each must be
found. Prints Markdown; ends with 1 if a server was ended without a reason or a fault was missed.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.lib.daemon import home
from benchmarks.lib.mixed_traffic import Mix, surprises, table
from tests.fakes.home import EXTRA_ARGS, Home, until
from tests.fakes.scripted_server import behave, fake_server

Harm = Callable[[int], None]
WIDTHS = (1, 4, 16, 64, 20, 2)
"""Clients at a time; each number for an equal part of the time."""
MODEL = "smollm2-135m"
BOTH = '["--embeddings", "--pooling", "mean"]'
"""Options with which one server answers chats and embeddings."""
FOUND_WITHIN = 12
"""A fault counts as missed after so many times ``wedge_after_s``."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client that asks again and again. It leaves after ``timeout_s`` and comes back ``pause_s`` later."""

    name: str
    timeout_s: float
    pause_s: float
    stream: bool = False


def settings(wedge_after_s: float, **more: str) -> dict[str, str]:
    """Return the settings of a home."""
    return {
        "QWENCTL_SUPERVISE__WEDGE_AFTER_S": str(wedge_after_s),
        "QWENCTL_CONTEXT__TOKENS": "8192",
        "QWENCTL_CONTEXT__MIN_TOKENS": "2048",
        **more,
    }


def endings(served: Home) -> list[dict[str, object]]:
    """Return how servers have ended so far."""
    lines = (served.state / "events.jsonl").read_text().splitlines()
    return [one for one in map(json.loads, lines) if one["event"] == "child_ended"]


async def soak(port: int, minutes: float) -> Mix:
    """Ask for so many minutes, with more and fewer clients."""
    mix = Mix(port)
    async with mix.asking(max(WIDTHS)):
        for width in WIDTHS:
            mix.width = width
            await asyncio.sleep(60 * minutes / len(WIDTHS))
        mix.width = 0
    return mix


def false_alarms(minutes: float, wedge_after_s: float, parallel: int) -> bool:
    """Soak the real server; return whether nothing was ended and nothing else surprised."""
    asked = settings(wedge_after_s, QWENCTL_CONTEXT__PARALLEL=str(parallel)) | {EXTRA_ARGS: BOTH}
    with home(**asked) as served:
        ran = served.run("up", MODEL, "--port", str(served.port))
        if ran.code:
            sys.exit(ran.err)
        begun = time.monotonic()
        mix = asyncio.run(soak(served.port, minutes))
        took_s = time.monotonic() - begun
        status, ended, found = served.status(), endings(served), surprises(mix)
        print(f"\n{MODEL}, {parallel} slots, wedge_after_s = {wedge_after_s:g}: {mix.total()} requests in")
        print(f"{took_s:.0f} s, the slowest took {mix.slowest_s:.0f} s\n\n{table(mix)}\n")
        print(f"restarts {status['restarts']['total']}, ended {[one['summary'] for one in ended]}")
        print(f"ready {status['ready']}, surprises {found}", flush=True)
        served.run("down")  # which waits while the server is in the middle of a batch
        return (len(ended), len(found), status["ready"]) == (0, 0, True)


def ask(port: int, client: Client) -> bool:
    """Ask once; return whether there was an answer."""
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "stream": client.stream}
    try:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        return httpx.post(url, json=body, timeout=client.timeout_s).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def asking(port: int, clients: tuple[Client, ...]) -> Iterator[None]:
    """Let clients ask until the end of the block."""
    over = threading.Event()

    def go_on(client: Client) -> None:
        while not over.is_set():
            ask(port, client)
            over.wait(client.pause_s)

    with concurrent.futures.ThreadPoolExecutor(len(clients)) as pool:
        for client in clients:
            pool.submit(go_on, client)
        try:
            yield
        finally:
            over.set()


def found_in(
    served: Home, clients: tuple[Client, ...], harm: Harm, within_s: float
) -> tuple[float | None, float | None]:
    """Harm the server; return after how long it was ended, and when a client got its next answer."""
    until(lambda: served.status().get("ready"), 60)
    before = len(endings(served))
    with asking(served.port, clients):
        until(lambda: ask(served.port, Client("first", 60, 0)), 120)
        harm(int(served.status()["pid"]))
        begun = time.monotonic()
        try:
            until(lambda: len(endings(served)) > before, within_s)
        except AssertionError:
            return None, None
        ended_s = time.monotonic() - begun
        until(lambda: ask(served.port, Client("next", 60, 0)), 120)
        return ended_s, time.monotonic() - begun


def clients_for(wedge_after_s: float) -> tuple[tuple[Client, ...], ...]:
    """Return the groups of clients: their timeouts and pauses are parts of ``wedge_after_s``."""
    patient = Client("one that waits", 600, 0.1)
    half = Client("leaves at 1/2, pauses 1/8", wedge_after_s / 2, wedge_after_s / 8)
    short = Client("leaves at 1/2, pauses 7/12", wedge_after_s / 2, wedge_after_s * 7 / 12, stream=True)
    return (patient,), (half,), (short,), (patient,) * 20


def finds(rounds: int, wedge_after_s: float) -> bool:
    """Harm servers in every way; return whether each fault was found."""
    missed, lines = (
        0,
        ["| fault | clients | found | ended after | next answer after |", "|---|---|---|---|---|"],
    )

    def note(name: str, served: Home, group: tuple[Client, ...], harm: Harm) -> None:
        nonlocal missed
        for _ in range(rounds):
            ended_s, next_s = found_in(served, group, harm, FOUND_WITHIN * wedge_after_s)
            missed += ended_s is None
            who = f"{len(group)} x {group[0].name}"
            times = "- | -" if ended_s is None or next_s is None else f"{ended_s:.2f} s | {next_s:.2f} s"
            lines.append(f"| {name} | {who} | {'no' if ended_s is None else 'yes'} | {times} |")
            print(lines[-1], file=sys.stderr, flush=True)

    groups = clients_for(wedge_after_s)
    with home(**settings(wedge_after_s)) as served:
        served.run("up", "--profile", "demo", "--port", str(served.port))
        for group in groups:
            note("SIGSTOP (real server)", served, group, lambda pid: os.kill(pid, signal.SIGSTOP))
    with home(**settings(wedge_after_s)) as served:
        binary = fake_server(served)
        served.run("up", "--profile", "demo", "--port", str(served.port))
        for group in groups:
            for name, how in FAKED.items():
                note(name, served, group, partial(turn, binary, how))
    print("\n" + "\n".join(lines), f"\n\nmissed: {missed}", flush=True)
    return not missed


FAKED: dict[str, dict[str, object]] = {
    "/health ok, the rest hung": {"hang": "but_health"},
    "everything hung": {"hang": "all"},
    "500 decode() failed": {"sick": "decode() failed: vk::Queue::submit: ErrorDeviceLost"},
    "500 in the middle of streams": {"sick": "Compute error.", "how": "late"},
    "a length that is too long": {"sick": "", "how": "long"},
    "closes every connection": {"sick": "", "how": "closes"},
}


def turn(binary: Path, how: dict[str, object], pid: int) -> None:
    """Let the present process of the stand-in turn bad; the next one is well."""
    behave(binary, sick_pid=pid, **how)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--wedge-after", type=float, default=10)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--finds", type=int, default=1, help="how often each fault is tried")
    arguments = parser.parse_args()
    good = []
    if arguments.minutes:
        good.append(false_alarms(arguments.minutes, arguments.wedge_after, arguments.parallel))
    if arguments.finds:
        good.append(finds(arguments.finds, arguments.wedge_after))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
