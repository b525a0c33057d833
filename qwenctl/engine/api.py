"""The one client of llama-server's HTTP API: generate a token, slots, tokenize. Decides nothing.

``/health`` proves nothing: a server that hangs may answer it, a busy one may not. A generated token does.
"""

import asyncio
from types import TracebackType
from typing import Self

import aiohttp

from qwenctl.engine.address import Address
from qwenctl.engine.slot import Slot, count, parse_slots

CONNECT_TIMEOUT_S = 5.0
LOOK_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 120.0
"""64 KiB per token on the 27B: 3.9 GB for 60,000 tokens, 40 s on a slow disk."""
END_BYTES = 4096
"""The end of a stream's last event; its beginning repeats the prompt."""
ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError)
"""What a call that fails raises."""
SHORTEST_REQUEST = {"prompt": "Hi", "n_predict": 1}


def session(address: Address) -> aiohttp.ClientSession:
    """Return a session for the server at ``address``.

    Each request gets a fresh connection, because llama-server closes idle ones. The answer is not
    decompressed and no header is added, so that the gate can pass both on as they are.
    """
    connector: aiohttp.BaseConnector
    if address.socket is not None:
        connector = aiohttp.UnixConnector(path=address.socket, force_close=True, limit=0)
    else:
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        trust_env=False,
        max_line_size=65_536,
        max_field_size=65_536,
    )


def base_url(address: Address) -> str:
    """Return the start of the URLs of a server at ``address``."""
    return "http://localhost" if address.socket is not None else address.url


class ServerApi:
    """The calls to one server. A call that fails raises one of ``ERRORS``.

    ``key`` is sent if the server itself asks for one, as it does when the gate is off.
    """

    def __init__(self, address: Address, key: str | None = None) -> None:
        self._client = session(address)
        self._base = base_url(address)
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def generates(self, timeout_s: float, *, empty: bool = False) -> bool:
        """Return whether the server generated a token. A server that is still loading answers no at once.

        ``empty``: no slot holds anything yet. The prompt cache is then not used, which halves the time to
        the first token.
        """
        try:
            return await self._token(timeout_s, empty=empty)
        except ERRORS:
            return False

    async def refusal(self, timeout_s: float) -> str | None:
        """Ask for a token; return what came instead. None: a token came, or nothing is known.

        A server that takes no connection may be on its way out, and one that says nothing may be busy.
        """
        try:
            return None if await self._token(timeout_s, empty=False) else "no token came"
        except (aiohttp.ClientConnectorError, TimeoutError):
            return None
        except ERRORS as error:
            return str(error) or type(error).__name__

    async def _token(self, timeout_s: float, *, empty: bool) -> bool:
        body = {**SHORTEST_REQUEST, "cache_prompt": not empty}
        answer = await self._call("POST", "/completion", body, timeout_s)
        return isinstance(answer, dict) and "content" in answer

    async def is_asleep(self) -> bool:
        """Return whether the server has put its model away by itself (``--sleep-idle-seconds``).

        ``/slots`` would wake it, ``/props`` does not. Source: llama-server b11434.
        """
        answer = await self._call("GET", "/props", None, LOOK_TIMEOUT_S)
        return isinstance(answer, dict) and answer.get("is_sleeping") is True

    async def slots(self, timeout_s: float = LOOK_TIMEOUT_S) -> tuple[Slot, ...]:
        """Return the slots: what each holds, and what it does."""
        return parse_slots(await self._call("GET", "/slots", None, timeout_s))

    async def read_prompt(self, number: int, prompt: str | list[int], *, generate: int = 0) -> bytes:
        """Let a slot hold this prompt; return the end of the answer, which has its timings.

        What the slot holds of it already is not read again; the server keeps checkpoints to go back to. The
        answer is a stream, because the server notices only there at once that nobody waits any more.
        """
        body = {
            "prompt": prompt,
            "n_predict": generate,
            "cache_prompt": True,
            "id_slot": number,
            "stream": True,
            "return_progress": True,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=CALL_TIMEOUT_S)
        end = b""
        async with self._client.post(
            self._base + "/completion", json=body, timeout=timeout, headers=self._headers
        ) as answer:
            while data := await answer.content.readany():
                end = (end + data)[-END_BYTES:]
        if not answer.ok or b'"timings":' not in end:
            raise ValueError(f"/completion did not finish: {end[-200:].decode('utf-8', 'replace')}")
        return end

    async def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        body = {"content": text, "parse_special": True}
        answer = await self._call("POST", "/tokenize", body, LOOK_TIMEOUT_S)
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        return [token for token in tokens if isinstance(token, int)] if isinstance(tokens, list) else []

    async def save_slot(self, number: int, filename: str) -> tuple[int, int]:
        """Save a slot in the server's folder; return the number of its tokens and the size of the file."""
        path = f"/slots/{number}?action=save"
        answer = await self._call("POST", path, {"filename": filename}, CALL_TIMEOUT_S)
        return count(answer, "n_saved"), count(answer, "n_written")

    async def restore_slot(self, number: int, filename: str) -> int:
        """Restore a saved slot; return the number of its tokens."""
        path = f"/slots/{number}?action=restore"
        answer = await self._call("POST", path, {"filename": filename}, CALL_TIMEOUT_S)
        return count(answer, "n_restored")

    async def _call(self, method: str, path: str, body: object, timeout_s: float) -> object:
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, CONNECT_TIMEOUT_S))
        url = self._base + path
        async with self._client.request(
            method, url, json=body, timeout=timeout, headers=self._headers
        ) as answer:
            if not answer.ok:
                text = (await answer.read())[:200].decode("utf-8", "replace")
                raise ValueError(f"{path.partition('?')[0]} answered {answer.status}: {text}")
            content: object = await answer.json(content_type=None) if answer.status != 204 else None
            return content
