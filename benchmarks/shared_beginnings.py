"""How much of what two sessions have in common is read anew: real daemon, real server, demo model.

Run from the repository's root: python -m benchmarks.shared_beginnings [--clients scripted,claude-code,...]
[--programs FOLDER] [--settle 8] [--binary FILE] [--bodies FOLDER]
The scripted client sends a system prompt and tools of 20,000 tokens, then two turns. The real ones are
@anthropic-ai/claude-code, @openai/codex and opencode-ai of npm; --programs is the folder of their programs
(node_modules/.bin). Each has three sessions in three folders with three first messages; before the third the
server is restarted. A proxy between client and gate writes down what the server says of each prompt. Common:
the tokens with which a prompt begins as an earlier session's did. Read anew: of these, those that the server
did not have in its cache. Prints Markdown. Nothing is sent out of the machine: the clients' proxy is nowhere.
A real client takes one to five minutes.
"""

import argparse
import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil

from benchmarks.lib.daemon import home
from benchmarks.lib.real_clients import CLIENTS, RealClient, ask, prepare
from benchmarks.lib.recorder import Asked, Recorder
from tests.fakes.home import Home, free_port, until
from tests.gate.talk import LETTERS

CONTEXT_TOKENS, ANSWER_TOKENS, BEGINNING_TOKENS = 200_000, 48, 20_000
WITHIN_S, IDLE_CPU_S = 900.0, 0.1
QUESTIONS = (
    "What is in this folder? Answer in one sentence.",
    "Write a function that adds two numbers.",
    "How do I find the largest file below a folder?",
)
SYSTEM = "You are an assistant who works with files and answers briefly. "
Session = Callable[[int], Awaitable[None]]
"""Holds the session of this number."""


def scripted(url: str) -> Session:
    """Return a client with a long system prompt and tools; two turns a session."""
    parameters = {
        "type": "object",
        "properties": {"path": {"type": "string", "description": "which file " * 20}},
    }
    tools = [
        {
            "type": "function",
            "function": {"name": f"tool_{n}", "description": "Do it. " * 60, "parameters": parameters},
        }
        for n in range(12)
    ]
    system = SYSTEM * ((BEGINNING_TOKENS - len(json.dumps(tools))) // len(SYSTEM))

    async def session(number: int) -> None:
        messages = [{"role": "system", "content": system}]
        async with aiohttp.ClientSession() as client:
            for text in (QUESTIONS[number], "And then?"):
                messages.append({"role": "user", "content": text})
                body = {"messages": messages, "tools": tools, "max_tokens": ANSWER_TOKENS}
                async with client.post(url + "/v1/chat/completions", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    told = (await answer.json())["choices"][0]["message"]
                messages.append({"role": "assistant", "content": told.get("content") or "short"})

    return session


def real(client: RealClient, programs: Path, where: Home, folder: Path, port: int) -> Session:
    """Return a real client, in an empty home, in a new folder each session."""
    environment = prepare(client, where, folder / client.name, port)

    async def session(number: int) -> None:
        place = folder / client.name / f"project-{number}"
        code, said = await asyncio.to_thread(
            ask, client, programs, environment, place, QUESTIONS[number], WITHIN_S
        )
        if code:
            print(f"{client.name}, session {number + 1}: exit code {code}: {said}", file=sys.stderr)

    return session


async def settled(where: Home, pause_s: float) -> None:
    """Wait until the server has done nothing for this long: what it reads and saves when idle is done."""
    used, quiet_since, give_up_at = -1.0, time.monotonic(), time.monotonic() + WITHIN_S
    while time.monotonic() < min(quiet_since + pause_s, give_up_at):
        await asyncio.sleep(1)
        times = psutil.Process(where.status()["pid"]).cpu_times()
        if times.user + times.system > used + IDLE_CPU_S:
            used, quiet_since = times.user + times.system, time.monotonic()


async def count(child: Path, text: str) -> int:
    """Return how many tokens a text is."""
    body = {"content": text, "parse_special": True}
    connector = aiohttp.UnixConnector(str(child), force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as bare,
        bare.post("http://x/tokenize", json=body) as answer,
    ):
        return len((await answer.json())["tokens"])


async def shares(child: Path, asked: list[Asked]) -> list[str]:
    """Return a line for each session: its requests, its tokens, the common ones, those read anew.

    What a request has in common with an earlier one of its own session is not counted again.
    """
    lines = []
    for session, group in itertools.groupby(asked, key=lambda each: each.session):
        requests, earlier = list(group), [each.prompt for each in asked if each.session < session]
        common = anew = 0
        for place, each in enumerate(requests):
            alike = await count(child, _alike(each.prompt, earlier))
            own = await count(child, _alike(each.prompt, [one.prompt for one in requests[:place]]))
            common += max(0, alike - own)
            anew += max(0, alike - max(own, each.cached))
        total = sum(each.cached + each.processed for each in requests)
        read = sum(each.processed for each in requests)
        share = f"{100 * anew / common:.2f} %" if common else ""
        lines.append(f"{session + 1} | {len(requests)} | {total} | {read} | {common} | {anew} | {share}")
    return lines


def _alike(text: str, others: list[str]) -> str:
    return max((os.path.commonprefix([text, one]) for one in others), key=len, default="")  # noqa: RUF071 - of texts


async def run(asked: argparse.Namespace) -> None:
    """Print the table."""
    print("| client | session | requests | tokens | read | common | of these read anew | share |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in asked.clients.split(","):
        settings = {
            "QWENCTL_CONTEXT__TOKENS": str(CONTEXT_TOKENS),
            "QWENCTL_GATE__WARM_MIN_TOKENS": "1024",
            "QWENCTL_GATE__WARM_AFTER_S": "1",
            "QWENCTL_SERVER__EXTRA_ARGS": json.dumps(["-t", "1", "-n", str(ANSWER_TOKENS), *LETTERS]),
        }
        if asked.binary:
            settings["QWENCTL_SERVER__BINARY"] = asked.binary
        with home(**settings) as where, tempfile.TemporaryDirectory(prefix="qc-", dir="/tmp") as folder:
            await one(name, where, Path(folder), asked)


async def one(name: str, where: Home, folder: Path, asked: argparse.Namespace) -> None:
    """Hold the three sessions of one client and print their lines."""
    url = (await asyncio.to_thread(where.up)).removesuffix("/v1")
    bodies = asked.bodies / name if asked.bodies else None
    if bodies:
        bodies.mkdir(parents=True, exist_ok=True)
    child, port = where.state / "child.sock", free_port()
    recorder = Recorder(url, child, ANSWER_TOKENS, bodies)
    await recorder.start(port)
    try:
        found = next((each for each in CLIENTS if each.name == name), None)
        through = f"http://127.0.0.1:{port}"
        session = real(found, asked.programs, where, folder, port) if found else scripted(through)
        for recorder.session in range(len(QUESTIONS)):
            if recorder.session == len(QUESTIONS) - 1:
                ran = await asyncio.to_thread(where.run, "restart")
                assert ran.code == 0, ran.err
                await asyncio.to_thread(until, lambda: where.status()["ready"], WITHIN_S)
            await session(recorder.session)
            await settled(where, asked.settle)
        for line in await shares(child, recorder.asked):
            print(f"| {name} | {line} |", flush=True)
    finally:
        await recorder.close()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", default="scripted")
    parser.add_argument("--programs", type=Path, default=Path("node_modules/.bin"))
    parser.add_argument(
        "--settle",
        type=float,
        default=8.0,
        help="after a session, wait until the server was quiet for so long",
    )
    parser.add_argument("--binary", help="the llama-server to use; default: the one that qwenctl finds")
    parser.add_argument("--bodies", type=Path, help="a folder that gets each request's body")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
