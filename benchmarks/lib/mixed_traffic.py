"""Clients of all kinds at one endpoint: patient and impatient ones, and some that deserve their errors."""

import asyncio
import collections
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp

BAD_SHARE = 0.05
"""How many requests of a hundred deserve the error that they get."""
HANG_S = 900.0
FINISH_S = 60.0
Body = dict[str, object]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request. ``leaves_s``: its client waits so long for an answer. ``good``: it gets a 200."""

    name: str
    path: str
    body: Callable[[random.Random], Body | bytes]
    good: bool = True
    leaves_s: tuple[float, float] | None = None


def chat(chance: random.Random, *, tokens: int, words: int = 8, **more: object) -> Body:
    """Return a chat of so many words; ``more`` are other keys of the body."""
    text = " ".join(chance.choice(("river", "seven", "blue", "why", "stone", "walk")) for _ in range(words))
    return {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, **more}


GOOD = (
    Kind("chat, plain", "/v1/chat/completions", lambda c: chat(c, tokens=c.randrange(1, 30))),
    Kind("chat, stream", "/v1/chat/completions", lambda c: chat(c, tokens=c.randrange(1, 30), stream=True)),
    Kind("messages", "/v1/messages", lambda c: chat(c, tokens=20)),
    Kind("completion", "/completion", lambda c: {"prompt": f"Once {c.random()}", "n_predict": 24}),
    Kind("long prompt", "/v1/chat/completions", lambda c: chat(c, tokens=4, words=c.randrange(100, 1500))),
    Kind("tokenize", "/tokenize", lambda c: {"content": f"{c.random()} " * 50}),
    Kind("embeddings", "/v1/embeddings", lambda c: {"input": [f"{c.random()} river"] * c.randrange(1, 9)}),
    Kind("leaves", "/v1/chat/completions", lambda c: chat(c, tokens=400), leaves_s=(0.05, 4.0)),
    Kind(
        "leaves a stream",
        "/v1/chat/completions",
        lambda c: chat(c, tokens=400, stream=True),
        leaves_s=(0.05, 4.0),
    ),
    Kind(
        "leaves a long prompt",
        "/v1/chat/completions",
        lambda c: chat(c, tokens=4, words=1500),
        leaves_s=(0.05, 6.0),
    ),
)
BAD = (
    Kind("no JSON", "/v1/chat/completions", lambda _: b'{"messages": [', good=False),
    Kind("a wrong grammar", "/completion", lambda _: {"prompt": "x", "grammar": "root ::= (("}, good=False),
    Kind(
        "a wrong schema",
        "/v1/chat/completions",
        lambda c: chat(c, tokens=9, json_schema={"type": "nonsense"}),
        good=False,
    ),
    Kind("a wrong role", "/v1/chat/completions", lambda _: {"messages": [{"role": 7}]}, good=False),
    Kind("no messages", "/v1/chat/completions", lambda _: {"messages": "decode() failed: x"}, good=False),
    Kind(
        "a picture",
        "/v1/chat/completions",
        lambda _: {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}
            ]
        },
        good=False,
    ),
    Kind("too long", "/v1/chat/completions", lambda c: chat(c, tokens=4, words=9_000), good=False),
    Kind("an unknown path", "/v1/nothing", lambda _: {}, good=False),
    Kind("embeddings of nothing", "/v1/embeddings", lambda _: {"input": ""}, good=False),
)


@dataclass(slots=True)
class Mix:
    """What came of all requests. ``width`` clients ask at a time, without a pause."""

    port: int
    seed: int = 1
    counts: dict[str, collections.Counter[str]] = field(default_factory=dict)
    slowest_s: float = 0.0
    width: int = 1
    over: bool = False

    @contextlib.asynccontextmanager
    async def asking(self, clients: int) -> AsyncIterator[None]:
        """Let up to so many clients ask, those below ``width`` at a time.

        At the end those under way may finish; what a slow machine does not get done is not counted.
        """
        connector, whole = aiohttp.TCPConnector(force_close=True, limit=0), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=whole) as session:
            asking = [asyncio.create_task(self._go_on(number, session)) for number in range(clients)]
            try:
                yield
            finally:
                self.over = True
                _, late = await asyncio.wait(asking, timeout=FINISH_S)
                for each in late:
                    each.cancel()
                await asyncio.gather(*asking, return_exceptions=True)

    def total(self) -> int:
        """Return how many requests have ended."""
        return sum(sum(each.values()) for each in self.counts.values())

    async def _go_on(self, number: int, session: aiohttp.ClientSession) -> None:
        chance = random.Random(1000 * self.seed + number)
        while not self.over:
            if number >= self.width:
                await asyncio.sleep(0.1)
                continue
            kind = chance.choice(BAD if chance.random() < BAD_SHARE else GOOD)
            begun = time.monotonic()
            came = await self._ask(kind, chance, session)
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
            self.counts.setdefault(kind.name, collections.Counter())[came] += 1

    async def _ask(self, kind: Kind, chance: random.Random, session: aiohttp.ClientSession) -> str:
        body = kind.body(chance)
        given: dict[str, object] = {"data": body} if isinstance(body, bytes) else {"json": body}
        patience_s = chance.uniform(*kind.leaves_s) if kind.leaves_s is not None else HANG_S
        try:
            async with (
                asyncio.timeout(patience_s),
                session.post(f"http://127.0.0.1:{self.port}{kind.path}", **given) as answer,  # type: ignore[arg-type]
            ):
                text = await answer.read()
                if answer.status == 200 and b'data: {"error"' in text[-2000:]:
                    return "ended with an error"
                return str(answer.status)
        except TimeoutError:
            return "left" if kind.leaves_s is not None else "hung"
        except aiohttp.ClientError as error:
            return type(error).__name__


def surprises(mix: Mix) -> list[str]:
    """Return what should not have happened: a good request without a 200, a bad one with one, or a hang."""
    found = []
    for kind in (*GOOD, *BAD):
        for came, count in mix.counts.get(kind.name, {}).items():
            expected = came in ("200", "left") if kind.good else came.startswith(("4", "5"))
            if not expected:
                found.append(f"{kind.name}: {count} x {came}")
    return found


def table(mix: Mix) -> str:
    """Return a Markdown table of what came of each kind."""
    lines = ["| request | came |", "|---|---|"]
    for name, came in sorted(mix.counts.items()):
        lines.append(f"| {name} | {', '.join(f'{count} x {what}' for what, count in sorted(came.items()))} |")
    return "\n".join(lines)
