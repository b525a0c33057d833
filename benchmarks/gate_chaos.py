"""Clients of the daemon while its server is killed and reconfigured, again and again: what did they notice?

Run from the repository's root: python -m benchmarks.gate_chaos [--kills 50] [--changes 50] [--every 0.7]
[--ready]
Real daemon, real server, demo model. Eight clients stream and sixteen ask plainly, without a pause. First the
server is killed every 0.7 s (where the daemon waits before it starts it again, it is told to restart, as a
person would), then its context changes over the control socket, one change after the other. Prints Markdown;
ends with 1 if a plain request got no answer, a stream ended in neither of the two ways or was malformed, or
anything hung. Each stream is one that can be continued: no tools, no probabilities of tokens, one choice.
"""

import argparse
import asyncio
import collections
import json
import sys
import time
from functools import partial

import aiohttp
import psutil

from benchmarks.lib.daemon import home
from benchmarks.lib.stream_form import parse, read
from qwenctl.control.call import call
from qwenctl.control.state_dir import OVERRIDES
from tests.fakes.home import Home, kill, until
from tests.gate.talk import LETTERS

KILL_EVERY_S = 0.7
HANG_S = 120.0
STREAMS, PLAIN = 8, 16
STREAM_TOKENS, PLAIN_TOKENS = 60, 16
APIS = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
}
ROUTES = tuple(APIS)
CONTEXTS = (4096, 8192)
GOOD = ("plain: answered", "stream: complete", "stream: ended with an error event")


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.slowest_s = 0.0
        self.over = False


def body_of(path: str, *, stream: bool) -> dict[str, object]:
    """Return a short request for this route."""
    tokens = STREAM_TOKENS if stream else PLAIN_TOKENS
    body: dict[str, object] = {"stream": stream, "max_tokens": tokens, "max_output_tokens": tokens}
    if stream and APIS[path] in ("chat", "completions"):
        body["stream_options"] = {"include_usage": True}
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
    reading = read(APIS[path], parse(text))
    if reading.problems:
        return f"malformed, {path}: {reading.problems[0]}"
    if reading.failed:
        return "ended with an error event"
    return "complete" if reading.ended else "ended without an end"


async def visit(url: str, number: int, tally: Tally, *, stream: bool) -> None:
    """Ask again and again."""
    kind = "stream" if stream else "plain"
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        while not tally.over:
            path = ROUTES[number % len(ROUTES)]
            since = time.monotonic()
            try:
                async with asyncio.timeout(HANG_S):
                    came = await (follow if stream else ask)(url, path, session)
            except TimeoutError:
                came = "HUNG"
            except (aiohttp.ClientError, ValueError) as error:
                came = f"{type(error).__name__}"
            tally.counts[f"{kind}: {came}"] += 1
            tally.slowest_s = max(tally.slowest_s, time.monotonic() - since)
            number += 1


async def tell(where: Home, path: str, body: object = None) -> None:
    """Say something over the control socket."""
    await asyncio.to_thread(call, where.state, "POST", path, body, HANG_S)


async def kill_often(where: Home, kills: int, *, every_s: float, ready: bool) -> None:
    """Kill the server if there is one, ready or not; or so long after each time it became ready."""
    killed = 0
    while killed < kills:
        if ready:
            await asyncio.to_thread(until, partial(_is_there, where), HANG_S)
        await asyncio.sleep(every_s)
        status = where.status()
        if status["phase"] == "backoff":
            await tell(where, "/v1/restart")
        elif status["pid"] is not None and psutil.pid_exists(status["pid"]):
            kill(status["pid"])
            killed += 1
    await tell(where, "/v1/restart")


def _is_there(where: Home) -> bool:
    status = where.status()
    there = status["phase"] == "ready" and status["pid"] is not None and psutil.pid_exists(status["pid"])
    return there or status["phase"] == "backoff"


async def change_often(where: Home, changes: int) -> None:
    """Change the context back and forth; each time a new server takes over."""
    overrides = json.loads((where.state / OVERRIDES).read_text())
    for number in range(changes):
        tokens, before = CONTEXTS[number % 2], where.status()["pid"]
        await tell(where, "/v1/apply", {"overrides": overrides | {"context": {"tokens": tokens}}})
        await asyncio.to_thread(until, partial(_took_over, where, tokens, before), HANG_S)


def _took_over(where: Home, tokens: int, before: int | None) -> bool:
    status = where.status()
    plan = status["plan"] or {}
    return (
        bool(status["ready"]) and plan.get("context_tokens") == tokens and status["pid"] not in (before, None)
    )


async def run(where: Home, asked: argparse.Namespace) -> int:
    """Print what the clients saw; return the exit code."""
    url = (await asyncio.to_thread(where.up)).removesuffix("/v1")
    bad = False
    for name, times, disturb in (
        ("SIGKILL", asked.kills, partial(kill_often, every_s=asked.every, ready=asked.ready)),
        ("configuration", asked.changes, change_often),
    ):
        if not times:
            continue
        tally = Tally()
        visits = [
            asyncio.create_task(visit(url, number, tally, stream=number < STREAMS))
            for number in range(STREAMS + PLAIN)
        ]
        since = time.monotonic()
        await disturb(where, times)
        took = time.monotonic() - since
        tally.over = True
        await asyncio.gather(*visits)
        print(f"\n{times} x {name} in {took:.1f} s; slowest request {tally.slowest_s:.2f} s\n")
        print("| what | how often | of its kind |\n|---|---|---|")
        kinds = collections.Counter({"plain": 0, "stream": 0})
        for what, often in tally.counts.items():
            kinds[what.partition(":")[0]] += often
        for what, often in sorted(tally.counts.items()):
            share = 100 * often / kinds[what.partition(":")[0]]
            print(f"| {what} | {often} | {share:.2f} % |", flush=True)
        bad |= GOOD[0] not in tally.counts or not set(tally.counts) <= set(GOOD)
    return int(bad)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--every", type=float, default=KILL_EVERY_S, help="seconds between two kills")
    parser.add_argument(
        "--ready", action="store_true", help="on a busy machine: count them from when it is ready"
    )
    asked = parser.parse_args()
    settings = {
        "QWENCTL_CONTEXT__PARALLEL": "4",
        "QWENCTL_CONTEXT__TOKENS": str(CONTEXTS[1]),
        # Letters only: after a first token that is no whole character, the server itself leaves out the role.
        "QWENCTL_SERVER__EXTRA_ARGS": json.dumps(["-t", "1", *LETTERS]),
    }
    with home(**settings) as where:
        sys.exit(asyncio.run(run(where, asked)))


if __name__ == "__main__":
    main()
