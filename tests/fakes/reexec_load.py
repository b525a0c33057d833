"""Clients of a daemon whose program changes, programs that take over or fail, and who counts the daemons."""

import asyncio
import collections
import contextlib
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

from qwenctl.control.state_dir import running
from qwenctl.daemon.reexec_guard import NAME
from tests.fakes.home import Home, Ran

HANG_S = 120.0
LOOK_S = 0.005
SCRIPTS = {
    "good": 'exec {python} -m qwenctl "$@"',
    "fails at once": "echo broken >&2; exit 1",
    "fails after the preflight": 'case "$*" in *--check*) exec {python} -m qwenctl "$@";; esac; exit 3',
    "hangs in the preflight": "exec sleep 1000",
    "prints rubbish": "echo hello",
}
"""What stands in the place of another version's program, in words of the shell."""


def programs(folder: Path) -> dict[str, Path]:
    """Write the programs; return them by what they do."""
    found = {}
    for name, script in SCRIPTS.items():
        path = folder / f"qwenctl-{name.replace(' ', '-')}"
        path.write_text(f"#!/bin/sh\n{script.format(python=sys.executable)}\n")
        path.chmod(0o755)
        found[name] = path
    return found


@dataclass(slots=True)
class Visitors:
    """Half of the clients stream; half of each kind keep their connection. Nobody may notice anything."""

    port: int
    over: bool = False
    slowest_s: float = 0.0
    counts: collections.Counter[str] = field(default_factory=collections.Counter)

    @contextlib.asynccontextmanager
    async def asking(self, streams: int, plain: int) -> AsyncIterator[None]:
        """Let so many clients ask without a pause; at the end each finishes what it has begun."""
        tasks = [asyncio.create_task(self._go_on(n, stream=n < streams)) for n in range(streams + plain)]
        try:
            yield
        finally:
            self.over = True
            await asyncio.gather(*tasks)

    async def answered(self, more: int) -> None:
        """Wait until so many more requests have ended."""
        enough, give_up_at = self.counts.total() + more, time.monotonic() + HANG_S
        while self.counts.total() < enough and time.monotonic() < give_up_at:  # noqa: ASYNC110 - clients count
            await asyncio.sleep(0.01)

    def lost(self) -> dict[str, int]:
        """Return what came to other clients than those that were answered."""
        return {name: count for name, count in self.counts.items() if not name.endswith(": answered")}

    async def _go_on(self, number: int, *, stream: bool) -> None:
        keeps = number % 2 == 0
        connector = aiohttp.TCPConnector(force_close=not keeps, limit=0)
        kind = f"{'stream' if stream else 'plain'}, {'one connection' if keeps else 'new connections'}"
        async with aiohttp.ClientSession(connector=connector) as session:
            while not self.over:
                since = time.monotonic()
                came = await self._ask(session, stream=stream)
                self.slowest_s = max(self.slowest_s, time.monotonic() - since)
                self.counts[f"{kind}: {came}"] += 1

    async def _ask(self, session: aiohttp.ClientSession, *, stream: bool) -> str:
        body = {"messages": [{"role": "user", "content": "hi"}], "stream": stream}
        body |= {"max_tokens": 24 if stream else 6, "ignore_eos": True}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        try:
            async with asyncio.timeout(HANG_S), session.post(url, json=body) as answer:
                text = await answer.text()
                whole = text.rstrip().endswith("data: [DONE]") if stream else "choices" in json.loads(text)
                fine = answer.status == 200 and whole and '"error"' not in text
                return "answered" if fine else f"status {answer.status}, {text[-200:]!r}"
        except TimeoutError:
            return "hung"
        except (aiohttp.ClientError, ValueError) as error:
            return f"{type(error).__name__}: {error}"


class DaemonCount:
    """Looks at the lock and at the processes of a home, all the time."""

    def __init__(self, home: Home) -> None:
        self.none = self.two = self.looks = 0
        self._home, self._over = home, threading.Event()

    @contextlib.contextmanager
    def looking(self) -> Iterator["DaemonCount"]:
        """Look while the block runs."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _look(self) -> None:
        turn = 0
        while not self._over.wait(LOOK_S):
            self.looks += 1
            self.none += running(self._home.state) is None
            turn += 1
            if turn % 40 == 0:
                first = daemons(self._home)
                self.two += len(first) > 1 and len(first & daemons(self._home)) > 1


def daemons(home: Home) -> set[int]:
    """Return the processes that are a daemon of this home; a guard and a preflight are none."""
    found = set()
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = each.cmdline()
            ours = "run" in words and str(home.path) in " ".join(words) and "--check-handover" not in words
            if ours and each.name() != NAME and each.status() != psutil.STATUS_ZOMBIE:
                found.add(each.pid)
    return found


async def reexec(home: Home, program: Path, *more: str) -> Ran:
    """Run ``qwenctl reexec`` with this program, to its end."""
    return await asyncio.to_thread(home.run, "reexec", "--program", str(program), *more)
