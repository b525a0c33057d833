"""Two agents in turn on one slot, with three restarts between: how much of their conversations is read anew?

Run from the repository's root: KEEPERS=FOLDER python -m benchmarks.two_agents [--engines bundled,compiled]
[--clients word,drops,mixed] [--routes openai,anthropic] [--turns 3] [--pause 2] [--end restart|kill]
Real daemon, real server, demo model. Each agent begins with a text of its own, of 4,000 or 6,000 tokens, and
each turn adds about 300. After ``turns`` turns of each the server is restarted, three times. The clients send
their answers back word for word, or drop the reasoning, or (mixed) one does this and one that. Usable:
tokens with which a prompt begins as what the same agent's last turn left in the slot. Read anew: of these,
those that the server did not have in its cache. If KEEPERS has the program hearth (PyPI: hearth-llm), the
same turns go through it to the same server with the same flags; it knows the route of OpenAI only.
Prints Markdown. A case takes about a minute on two cores.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from benchmarks.engines import engines
from benchmarks.lib.daemon import home
from benchmarks.lib.hearth import hearth
from tests.fakes.home import Home, kill, until
from tests.gate.talk import FLAGS, Talk

BEGINNINGS = (4000, 6000)
WORDS = ("the quick brown fox jumps over the lazy dog; ", "pack my box with five dozen liquor jugs, please; ")
TURN_TOKENS, ANSWER_TOKENS, RESTARTS = 240, 60, 3
CONTEXT_TOKENS, WITHIN_S = 32_768, 120.0


@dataclass
class Keeper:
    """What stands before the server: its address, how the server is seen bare, and how it is restarted."""

    url: str
    bare: str
    socket: str | None
    restart: Callable[[], None]

    def client(self) -> aiohttp.ClientSession:
        """Return a client of the bare server."""
        unix = aiohttp.UnixConnector(self.socket, force_close=True) if self.socket else None
        return aiohttp.ClientSession(connector=unix or aiohttp.TCPConnector(force_close=True))


@dataclass
class Agent:
    """One conversation. ``held`` is what its last turn left in the slot."""

    talk: Talk
    beginning: str
    held: str = ""
    prompt: int = 0
    usable: int = 0
    anew: int = 0
    turns: int = field(default=0)

    async def turn(self, keeper: Keeper) -> None:
        """Say something, and compare what was cached with what could have been."""
        self.turns += 1
        filler = WORDS[len(self.beginning) % 2]
        text = f"turn {self.turns}: {filler * (TURN_TOKENS // len(filler))}"
        await self.talk.say(text if self.held else self.beginning + text, ANSWER_TOKENS)
        async with keeper.client() as bare:
            now = await _held(bare, keeper.bare)
            common = os.path.commonprefix([self.held, now])  # noqa: RUF071 - of texts
            usable = await _count(bare, keeper.bare, common)
        self.prompt += self.talk.cached + self.talk.processed
        self.usable += usable
        self.anew += max(0, usable - self.talk.cached)
        self.held = now


async def _held(bare: aiohttp.ClientSession, base: str) -> str:
    async with bare.get(base + "/slots") as answer:
        [slot] = await answer.json()
        return f"{slot.get('prompt', '')}{slot.get('generated', '')}"


async def _count(bare: aiohttp.ClientSession, base: str, text: str) -> int:
    async with bare.post(base + "/tokenize", json={"content": text, "parse_special": True}) as answer:
        return len((await answer.json())["tokens"])


async def converse(keeper: Keeper, client: str, route: str, turns: int, pause_s: float) -> list[Agent]:
    """Let the two agents talk in turn, with restarts between."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        agents = [
            Agent(
                Talk(
                    keeper.url,
                    session,
                    client == "word" or (client == "mixed" and not number),
                    route == "anthropic",
                ),
                WORDS[number] * (tokens // len(WORDS[number])),
            )
            for number, tokens in enumerate(BEGINNINGS)
        ]
        for part in range(RESTARTS + 1):
            for _, agent in itertools.product(range(turns), agents):
                await agent.turn(keeper)
                await asyncio.sleep(pause_s)
            if part < RESTARTS:
                await asyncio.to_thread(keeper.restart)
        return agents


@contextlib.asynccontextmanager
async def ours(where: Home, end: str) -> AsyncIterator[Keeper]:
    """Return the daemon."""
    url = (await asyncio.to_thread(where.up)).removesuffix("/v1")

    def restart() -> None:
        before = where.status()["pid"]
        if end == "kill":
            kill(before)
        else:
            ran = where.run("restart")
            assert ran.code == 0, ran.err
        until(lambda: where.status()["ready"] and where.status()["pid"] != before, WITHIN_S)

    yield Keeper(url, "http://x", str(where.state / "child.sock"), restart)


def command_of(where: Home) -> tuple[list[str], dict[str, str]]:
    """Return command line and environment of the daemon's server, for a rival's."""
    process = psutil.Process(where.status()["pid"])
    return process.cmdline(), process.environ()


async def run(asked: argparse.Namespace) -> None:
    """Print the table."""
    print("| engine | keeper | client | route | tokens | usable | read anew | share |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rival = Path(os.environ.get("KEEPERS", "/usr/bin")) / "hearth"
    cases = itertools.product(asked.engines.split(","), asked.clients.split(","), asked.routes.split(","))
    for engine, client, route in cases:
        settings = {
            "QWENCTL_CONTEXT__TOKENS": str(CONTEXT_TOKENS),
            "QWENCTL_GATE__WARM_MIN_TOKENS": "1024",
            "QWENCTL_GATE__WARM_AFTER_S": "1",
            "QWENCTL_SERVER__EXTRA_ARGS": json.dumps(["-t", "1", *FLAGS]),
            "QWENCTL_SERVER__BINARY": str(engines()[engine]),
        }
        with home(**settings) as where, tempfile.TemporaryDirectory(prefix="qt-", dir="/tmp") as folder:
            async with ours(where, asked.end) as keeper:
                server = command_of(where)
                agents = await converse(keeper, client, route, asked.turns, asked.pause)
                print_line(engine, "qwenctl", client, route, agents)
            if route != "openai" or not rival.exists():
                continue
            with hearth(rival, *server, Path(folder)) as other:
                bare = f"http://127.0.0.1:{other.server_port}"
                keeper = Keeper(f"http://127.0.0.1:{other.port}", bare, None, other.restart)
                agents = await converse(keeper, client, route, asked.turns, asked.pause)
                print_line(engine, "hearth", client, route, agents)


def print_line(engine: str, keeper: str, client: str, route: str, agents: list[Agent]) -> None:
    """Print the line of both agents together."""
    prompt, usable, anew = (
        sum(getattr(each, name) for each in agents) for name in ("prompt", "usable", "anew")
    )
    share = 100 * anew / usable
    print(
        f"| {engine} | {keeper} | {client} | {route} | {prompt} | {usable} | {anew} | {share:.2f} % |",
        flush=True,
    )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engines", default="bundled,compiled")
    parser.add_argument("--clients", default="word,drops,mixed")
    parser.add_argument("--routes", default="openai,anthropic")
    parser.add_argument("--turns", type=int, default=3, help="of each agent, between two restarts")
    parser.add_argument("--pause", type=float, default=2.0, help="after a turn, in seconds")
    parser.add_argument("--end", choices=("restart", "kill"), default="restart")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
