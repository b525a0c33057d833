"""Wedged or busy? How long each wedge takes to be found, and whether long work is ever mistaken for one.

    python -m benchmarks.wedge --server LLAMA_SERVER --model GGUF [--rounds 5] [--minutes 0]

Limits are scaled down: a wedge after 1 s without progress, where the product waits 120 s. The busy run
asks for prompts whose batches take longer than that limit, one after another, and counts restarts.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from qwenctl.engine.address import Address
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.wedge import WedgeLimits
from tests.fakes.bench import BUSY, Bench, Switched, supervising

LIMITS = WedgeLimits(wedge_after_s=1.0, sample_s=0.25, probe_timeout_s=1.0, first_batch_s=3.0)
BUSY_LIMITS = WedgeLimits(wedge_after_s=0.2, sample_s=0.05, probe_timeout_s=0.2, first_batch_s=60.0)
WORDS = 6000
CLIENT_TIMEOUT_S = 600


def spec(server: str, model: str, folder: Path) -> LaunchSpec:
    """Return the real server on a socket."""
    socket = str(folder / "s.sock")
    argv = (server, "-m", model, "--host", socket, "-np", "1", "-c", "65536", "-lv", "4")
    return LaunchSpec(argv, Address(socket, None), ready_timeout_s=60, stop_timeout_s=5)


async def stopped(folder: Path, arguments: argparse.Namespace) -> float:
    """SIGSTOP to the real server, nobody knowing what is in flight."""
    bench = Bench()
    async with supervising(spec(arguments.server, arguments.model, folder), bench, LIMITS):
        await bench.until("Ready")
        assert bench.pid is not None
        begun = time.monotonic()
        os.kill(bench.pid, signal.SIGSTOP)
        await bench.until_ended("wedged", within=60)
        return time.monotonic() - begun


def switched(behaviour: str, *, ask: bool) -> Callable[[Path, argparse.Namespace], Awaitable[float]]:
    """Return a case on the stand-in server, which goes bad while a request is in flight."""

    async def case(folder: Path, arguments: argparse.Namespace) -> float:
        del arguments
        bench, server = Bench(traffic=BUSY), Switched(folder)
        wanted = server.spec
        async with supervising(wanted, bench, LIMITS):
            await bench.until("Ready")
            begun = time.monotonic()
            server.behave(behaviour)
            if ask:
                async with httpx.AsyncClient(timeout=0.2) as client:
                    with contextlib.suppress(httpx.HTTPError):
                        await client.post(f"{wanted.address.url}/completion", json={})
            await bench.until_ended("wedged", within=60)
            return time.monotonic() - begun

    return case


CASES = {
    "SIGSTOP (real server)": stopped,
    "/health ok, the rest hung": switched('{"hang": "but_health"}', ask=False),
    "everything hung, SIGTERM ignored": switched('{"hang": "all", "ignore_term": true}', ask=False),
    "a thread spinning at 100 % (first batch 3 s)": switched('{"spin": 3600}', ask=True),
}


async def busy(arguments: argparse.Namespace, folder: Path) -> None:
    """Long prefills and long answers for many minutes; any restart is a false positive."""
    bench = Bench(traffic=BUSY)
    wanted = spec(arguments.server, arguments.model, folder)
    async with supervising(wanted, bench, BUSY_LIMITS):
        await bench.until("Ready")
        transport = httpx.AsyncHTTPTransport(uds=wanted.address.socket)
        until, requests, failed = time.monotonic() + arguments.minutes * 60, 0, 0
        async with httpx.AsyncClient(
            transport=transport, base_url="http://server", timeout=CLIENT_TIMEOUT_S
        ) as client:
            while time.monotonic() < until:
                body = {"prompt": f"{requests} " + "word " * WORDS, "n_predict": 20}
                try:
                    failed += not (await client.post("/completion", json=body)).is_success
                except httpx.HTTPError:
                    failed += 1
                requests += 1
        restarts = 0 if bench.last is None else bench.phases.count("Starting")
        what = f"{requests} long prompts, {failed} failed, {restarts} restarts"
        print(f"busy for {arguments.minutes:g} min: {what}; last ending {bench.last}")


async def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0)
    arguments = parser.parse_args()
    for name, case in CASES.items():
        times = []
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory(dir="/tmp") as folder:
                times.append(await case(Path(folder), arguments))
        if times:
            spread = f"{min(times):.2f} to {max(times):.2f}"
            print(f"{name}: median {statistics.median(times):.2f} s ({spread}), n={len(times)}", flush=True)
    if arguments.minutes:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            await busy(arguments, Path(folder))


if __name__ == "__main__":
    asyncio.run(main())
