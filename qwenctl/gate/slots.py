"""Ask a child about its slots: what they hold, go back, save, restore. Decides nothing."""

import asyncio
from dataclasses import dataclass

import aiohttp

from qwenctl.gate import forward
from qwenctl.launch.spec import Address

LOOK_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 120.0
"""64 KiB per token on the 27B: 3.9 GB for 60,000 tokens, 40 s on a slow disk."""
ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError)


@dataclass(frozen=True, slots=True)
class Slot:
    """What a slot holds: the text of its prompt and answer, and how many tokens that is."""

    number: int
    busy: bool
    text: str
    tokens: int


class Slots:
    """The calls to one child; raises one of ``ERRORS`` when a call comes to nothing."""

    def __init__(self, address: Address) -> None:
        self._client = forward.session(address)
        self._base = "http://localhost" if address.socket is not None else address.url

    async def close(self) -> None:
        """Close what talks to the child."""
        await self._client.close()

    async def look(self) -> tuple[Slot, ...]:
        """Return what the slots hold. Their text is there with ``LLAMA_SERVER_SLOTS_DEBUG=1`` only."""
        told = await self._call("GET", "/slots", None, LOOK_TIMEOUT_S)
        if not isinstance(told, list):
            raise ValueError("no list of slots")  # noqa: TRY004 - what came over the wire is a value
        return tuple(_slot(each) for each in told if isinstance(each, dict))

    async def roll(self, number: int, text: str) -> None:
        """Take a slot back to where it held ``text``; the server has checkpoints for that."""
        body = {"prompt": text, "n_predict": 0, "cache_prompt": True, "id_slot": number}
        await self._call("POST", "/completion", body, CALL_TIMEOUT_S)

    async def count(self, text: str) -> int:
        """Return how many tokens a text is."""
        body = {"content": text, "parse_special": True}
        told = await self._call("POST", "/tokenize", body, LOOK_TIMEOUT_S)
        tokens = told.get("tokens") if isinstance(told, dict) else None
        return len(tokens) if isinstance(tokens, list) else 0

    async def save(self, number: int, filename: str) -> tuple[int, int]:
        """Save a slot in the server's folder; return tokens and bytes."""
        told = await self._call(
            "POST", f"/slots/{number}?action=save", {"filename": filename}, CALL_TIMEOUT_S
        )
        return _count(told, "n_saved"), _count(told, "n_written")

    async def restore(self, number: int, filename: str) -> int:
        """Bring a saved slot back; return its tokens."""
        told = await self._call(
            "POST", f"/slots/{number}?action=restore", {"filename": filename}, CALL_TIMEOUT_S
        )
        return _count(told, "n_restored")

    async def _call(self, method: str, path: str, body: object, timeout_s: float) -> object:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        async with self._client.request(method, self._base + path, json=body, timeout=timeout) as answer:
            if answer.status != 200:
                said = (await answer.read())[:200].decode("utf-8", "replace")
                raise ValueError(f"{path.partition('?')[0]} answered {answer.status}: {said}")
            told: object = await answer.json()
            return told


def _slot(told: dict[str, object]) -> Slot:
    text, generated = told.get("prompt", ""), told.get("generated", "")
    return Slot(
        number=_count(told, "id"),
        busy=told.get("is_processing") is True,
        text=f"{text}{generated}" if isinstance(text, str) and isinstance(generated, str) else "",
        tokens=_count(told, "n_prompt_tokens"),
    )


def _count(told: object, name: str) -> int:
    value = told.get(name, 0) if isinstance(told, dict) else 0
    return value if isinstance(value, int) else 0
