"""How much of a conversation survives a restart, and what that saves: real daemon, real server, demo model.

Run from the repository's root: python -m benchmarks.warm_restart [--sizes 4096,16384] [--clients word,drops]
[--routes openai,anthropic] [--tools no,yes] [--no-cold]
For each case a client holds two turns; the server is killed once its slot was saved, and the third turn
is asked; then it is restarted as wanted, and the fourth asked. Share = tokens from the cache / tokens
of what the slot held that the new turn still begins with: all of it for a client that sends its answers
back word for word, with the reasoning; up to the last answer for one that drops the reasoning. The time
is that of the first answer after the server was ready; "cold" is the same without warm restart, once a
size. Prints Markdown.
A case takes about 10 s with 4,096 tokens and a minute with 61,440.
"""

import argparse
import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks.lib.daemon import home
from tests.fakes.home import Home, kill, until
from tests.gate.talk import FLAGS, Talk

SENTENCE = "the quick brown fox jumps over the lazy dog; "  # 45 tokens: one a byte
ANSWER_TOKENS = 400
MIN_TOKENS = 1024
WITHIN_S = 120.0


class Case:
    """One conversation with one daemon."""

    def __init__(self, where: Home, url: str, session: aiohttp.ClientSession, talk: Talk) -> None:
        self.where, self.url, self.session, self.talk = where, url, session, talk

    async def fill(self, tokens: int) -> None:
        """Hold two turns of half the tokens each."""
        for _ in range(2):
            await self.talk.say(SENTENCE * (tokens // 2 // len(SENTENCE)), ANSWER_TOKENS)

    async def ask(self, end: Callable[[], Coroutine[None, None, None]]) -> tuple[int, int, float]:
        """End the server and ask on; return tokens usable and cached, and the seconds of the answer."""
        held, before = await self.held(), self.where.status()["pid"]
        await end()
        await asyncio.to_thread(until, lambda: _is_new(self.where, before), WITHIN_S)
        since = time.monotonic()
        await self.talk.say("and then?", 8)
        took = time.monotonic() - since
        usable = await self.count(os.path.commonprefix([held, await self.held()]))  # noqa: RUF071 - of texts
        return usable, self.talk.cached, took

    async def killed(self) -> None:
        """Kill the server, once what it holds was saved."""
        enough = 0.9 * (self.talk.cached + self.talk.processed)
        await asyncio.to_thread(until, lambda: _saved_tokens(self.where) >= enough, WITHIN_S)
        kill(self.where.status()["pid"])

    async def restarted(self) -> None:
        """Restart the server as a person would."""
        ran = await asyncio.to_thread(self.where.run, "restart")
        assert ran.code == 0, ran.err

    async def held(self) -> str:
        """Return the longest text a slot holds, as its owner may see it."""
        path = str(self.where.state / "control.sock")
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as owner,
            owner.get("http://x/slots") as answer,
        ):
            slots = await answer.json()
            return max((f"{slot.get('prompt', '')}{slot.get('generated', '')}" for slot in slots), key=len)

    async def count(self, text: str) -> int:
        """Return how many tokens a text is."""
        body = {"content": text, "parse_special": True}
        async with self.session.post(self.url + "/tokenize", json=body) as answer:
            return len((await answer.json())["tokens"])


def _is_new(where: Home, before: int) -> bool:
    status = where.status()
    return bool(status["ready"]) and status["pid"] != before


def _saved_tokens(where: Home) -> int:
    path: Path = where.state / "warm/warm.json"
    slots = json.loads(path.read_text())["snapshots"] if path.exists() else []
    return max((int(each["tokens"]) for each in slots), default=0)


async def converse(
    tokens: int, *, faithful: bool, anthropic: bool, tools: bool, warm: bool
) -> list[tuple[int, int, float]]:
    """Return what came of a kill and of a wanted restart; without warm only of the kill."""
    settings = {
        "QWENCTL_CONTEXT__TOKENS": str(tokens + 8192),
        "QWENCTL_GATE__WARM": json.dumps(warm),
        "QWENCTL_GATE__WARM_MIN_TOKENS": str(MIN_TOKENS),
        "QWENCTL_GATE__WARM_AFTER_S": "1",
        "QWENCTL_SERVER__EXTRA_ARGS": json.dumps(FLAGS),
    }
    with home(**settings) as where:
        url = (await asyncio.to_thread(where.up)).removesuffix("/v1")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            case = Case(where, url, session, Talk(url, session, faithful, anthropic, tools))
            await case.fill(tokens)
            if not warm:
                return [await case.ask(lambda: _kill_cold(where))]
            return [await case.ask(case.killed), await case.ask(case.restarted)]


async def _kill_cold(where: Home) -> None:
    kill(where.status()["pid"])


async def run(
    sizes: list[int], clients: list[str], routes: list[str], tools: list[str], *, cold: bool
) -> None:
    """Print the table."""
    print("| tokens | client | route | tools | end | usable | cached | share | first answer | cold |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for size in sizes:
        case = partial(converse, size)
        cold_s = float("nan")
        if cold:
            [(_, _, cold_s)] = await case(faithful=False, anthropic=False, tools=False, warm=False)
        for client, route, tooled in itertools.product(clients, routes, tools):
            ends = await case(
                faithful=client == "word", anthropic=route == "anthropic", tools=tooled == "yes", warm=True
            )
            for end, (usable, cached, took) in zip(("SIGKILL", "wanted"), ends, strict=True):
                share = 100 * cached / usable
                print(
                    f"| {size} | {client} | {route} | {tooled} | {end} | {usable} | {cached} | {share:.2f} %"
                    f" | {took:.2f} s | {cold_s:.2f} s |",
                    flush=True,
                )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="4096,16384")
    parser.add_argument("--clients", default="word,drops")
    parser.add_argument("--routes", default="openai,anthropic")
    parser.add_argument("--tools", default="no,yes")
    parser.add_argument("--no-cold", action="store_true", help="leave out what it takes without warm restart")
    asked = parser.parse_args()
    sizes = [int(size) for size in asked.sizes.split(",")]
    asyncio.run(
        run(
            sizes,
            asked.clients.split(","),
            asked.routes.split(","),
            asked.tools.split(","),
            cold=not asked.no_cold,
        )
    )


if __name__ == "__main__":
    main()
