"""Clients of a gate that ask without a pause, and edits of its configuration: what did the clients notice?"""

import asyncio
import collections
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import httpx

from tests.fakes.home import Home

KEY = "sesame"
HANG_S = 60.0
PROMPT = "once upon a time " * 20
KEPT_SLOT = 0
"""The clients ask in the other slots, so that nothing but a restart changes what this one holds."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines of a configuration. ``good``: it is kept. ``host`` and ``moves``: where the gate is to listen."""

    name: str
    gate: str = ""
    server: str = ""
    good: bool = True
    moves: bool = False


@dataclass(slots=True)
class Clients:
    """``streams`` clients stream and ``plain`` ask plainly, each in a slot of its own but the kept one.

    ``leaving`` is the port that an edit is about to close: only there may a connection be refused.
    """

    port: int
    slots: int
    leaving: int | None = None
    over: bool = False
    slowest_s: float = 0.0
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)

    async def ask(self, number: int, session: aiohttp.ClientSession, *, stream: bool) -> None:
        """Ask once; note what came of it."""
        port, since = self.port, time.monotonic()
        kind = "stream" if stream else "plain"
        body = {
            "prompt": f"client {number}",
            "id_slot": 1 + number % (self.slots - 1),
            "n_predict": 48 if stream else 8,
            "ignore_eos": True,
            "stream": stream,
        }
        try:
            async with (
                asyncio.timeout(HANG_S),
                session.post(f"http://127.0.0.1:{port}/completion", json=body) as answer,
            ):
                text = await answer.text()
                whole = answer.status == 200 and '"error"' not in text and '"stop":true' in text[-20_000:]
                came = "answered" if whole else f"status {answer.status}, {text[-200:]!r}"
        except TimeoutError:
            came = "hung"
        except aiohttp.ClientConnectorError as error:
            came = f"refused at {port}: {error}"
            if port == self.leaving:
                self.counts[f"{kind}: too late at an address that has gone"] += 1
                await asyncio.sleep(0.02)
                return
        except aiohttp.ClientError as error:
            came = f"{type(error).__name__}: {error}"
        self.slowest_s = max(self.slowest_s, time.monotonic() - since)
        self.counts[f"{kind}: {came if came == 'answered' else 'not answered'}"] += 1
        if came != "answered":
            self.faults.append(f"{kind}: {came}")

    async def go_on_asking(self, number: int, *, stream: bool) -> None:
        """Ask again and again, with a connection for each request."""
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            while not self.over:
                await self.ask(number, session, stream=stream)

    async def answered(self, more: int) -> None:
        """Wait until so many more requests were answered."""
        enough = self.total() + more
        give_up_at = time.monotonic() + HANG_S
        while self.total() < enough and time.monotonic() < give_up_at:  # noqa: ASYNC110 - clients count
            await asyncio.sleep(0.01)

    def total(self) -> int:
        """Return how many requests have ended."""
        return sum(self.counts.values())


@asynccontextmanager
async def asking(port: int, slots: int, streams: int, plain: int) -> AsyncIterator[Clients]:
    """Let clients ask while the block runs."""
    clients = Clients(port, slots)
    tasks = [
        asyncio.create_task(clients.go_on_asking(number, stream=number < streams))
        for number in range(streams + plain)
    ]
    try:
        yield clients
    finally:
        clients.over = True
        await asyncio.gather(*tasks)


class Editor:
    """Saves configurations, as a person does, and waits until the daemon has dealt with each."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._config = home.path / ".config/qwenctl/config.toml"
        self._config.parent.mkdir(parents=True, exist_ok=True)

    def save(self, text: str) -> None:
        """Replace the file as editors do."""
        part = self._config.with_name("config.toml.part")
        part.write_text(text)
        part.replace(self._config)

    def write(self, port: int, edit: Edit) -> None:
        """Write a configuration that serves the demo model on ``port``, with the lines of the edit."""
        server = edit.server if edit.moves or "port" in edit.server else f"port = {port}\n{edit.server}"
        self.save(f'profile = "demo"\n[server]\n{server}\n[gate]\n{edit.gate}\n')

    def number(self) -> int:
        """Return the number of the newest change."""
        return int(self._home.status()["change"]["number"])

    async def dealt_with(self, after: int) -> dict[str, object]:
        """Wait until a newer change than ``after`` is kept or refused; return the status."""
        give_up_at = time.monotonic() + HANG_S
        while time.monotonic() < give_up_at:
            status = self._home.status()
            change = status["change"]
            if change["number"] > after and change["state"] in ("settled", "refused"):
                return status
            await asyncio.sleep(0.01)
        raise TimeoutError(f"change {after + 1} was not dealt with: {self._home.status()['change']}")


async def play(home: Home, clients: Clients, edits: Sequence[Edit]) -> None:
    """Make one edit after the other while the clients ask; note each that came out otherwise than it says."""
    editor = Editor(home)
    for edit in edits:
        port = clients.port
        before = editor.number()
        if edit.moves:
            clients.leaving = port
        editor.write(port, edit)
        status = await editor.dealt_with(before)
        if edit.moves:
            clients.port = int(str(status["endpoint"]).removesuffix("/v1").rpartition(":")[2])
        refused = status["change"]["refused"]  # type: ignore[index]
        if (refused is None) is not edit.good:
            clients.faults.append(f"{edit.name}: refused is {refused}")
        if edit.moves and clients.port == port:
            clients.faults.append(f"{edit.name}: still at {port}")
        await clients.answered(4)


def edits(folder: Path, taken: int, ports: Sequence[int]) -> list[Edit]:
    """Return an edit of every key of ``[gate]``, of the key file, host and port; good and bad ones.

    ``enabled`` is left out: without the gate there is another server. ``taken`` is a port of another program.
    """
    first, second = folder / "keys", folder / "other-keys"
    for path, text in ((first, KEY), (second, f"other\n{KEY}"), (folder / "empty-keys", "# none yet")):
        if not path.exists():  # one that is in force is never empty, not even for a moment
            path.write_text(f"{text}\n")
    keys = [f'api_key_file = "{path}"' for path in (first, second)]
    return [
        Edit("a host more", 'allowed_hosts = ["llm.home"]'),
        Edit("a wrong type", 'max_held = "many"', good=False),
        Edit("a page more", 'allowed_origins = ["https://chat.example"]'),
        Edit("keys", server=keys[0]),
        Edit("other keys", server=keys[1]),
        Edit("keys that are not there", server=f'api_key_file = "{folder}/no-keys"', good=False),
        Edit("a key file without keys", server=f'api_key_file = "{folder}/empty-keys"', good=False),
        Edit("every address", "allow_open = true", 'host = "0.0.0.0"'),
        Edit("every address without keys", server='host = "0.0.0.0"', good=False),
        Edit("another port", server=f"port = {ports[0]}", moves=True),
        Edit("a taken port", server=f"port = {taken}", good=False),
        Edit("an address that is not ours", server='host = "192.0.2.1"', good=False),
        Edit("a short wait", "hold_timeout_s = 20\nmax_held = 40\nmax_held_bytes = 9000000"),
        Edit("an unknown key", "max_hold = 1", good=False),
        Edit("no saving", "warm = false\nidle_unload_s = 900"),
        Edit(
            "saving", "warm_min_tokens = 64\nwarm_after_s = 1\nwarm_max_bytes = 9000000\ndrain_timeout_s = 9"
        ),
        Edit("another port and keys", "max_held = 41", f"{keys[0]}\nport = {ports[1]}", moves=True),
    ]


def fill_slot(port: int) -> None:
    """Put a prompt into the slot that no client uses."""
    body = {"prompt": PROMPT, "id_slot": KEPT_SLOT, "n_predict": 0, "cache_prompt": True}
    httpx.post(f"http://127.0.0.1:{port}/completion", json=body, timeout=HANG_S).raise_for_status()


def kept_slot(home: Home) -> tuple[object, ...]:
    """Return what shows that server and slot are the same: the pid, the last task, the tokens."""
    transport = httpx.HTTPTransport(uds=str(home.state / "control.sock"))
    with httpx.Client(transport=transport, base_url="http://x", timeout=HANG_S) as owner:
        slots = json.loads(owner.get("/slots").text)
    slot = next(each for each in slots if each["id"] == KEPT_SLOT)
    return home.status()["pid"], slot.get("id_task"), slot["n_prompt_tokens"]
