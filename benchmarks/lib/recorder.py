"""Stand between a client and the gate, and write down how much of each prompt was read anew."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.lib.stream_form import parse
from qwenctl.gate.headers import to_client
from qwenctl.gate.server_faults import COMPUTING_PATHS

MOST_BYTES = 64 << 20
LIMITS = ("max_tokens", "max_output_tokens", "max_completion_tokens", "n_predict")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its prompt as the slot has it, and the server's counts."""

    session: int
    path: str
    body_bytes: int
    prompt: str
    cached: int
    processed: int


class Recorder:
    """A proxy. ``session`` is what the next requests belong to; ``asked`` is what was asked so far.

    One request at a time, so that the only slot still shows the prompt of the one that was answered.
    ``bodies``: a folder that gets each body. An answer has at most ``tokens`` tokens, because what a random
    model says is of no interest.
    """

    def __init__(self, gate: str, child: Path, tokens: int, bodies: Path | None = None) -> None:
        self.gate, self.child, self.tokens, self.bodies = gate, child, tokens, bodies
        self.session, self.asked, self.others = 0, list[Asked](), list[str]()
        self._one = asyncio.Lock()
        self._client = aiohttp.ClientSession(auto_decompress=False)
        self._bare = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(child), force_close=True))
        self._runner = web.ServerRunner(web.Server(self._pass_on))

    async def start(self, port: int) -> None:
        """Listen."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def close(self) -> None:
        """End."""
        await self._runner.cleanup()
        await self._client.close()
        await self._bare.close()

    async def _pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        computes = request.method == "POST" and request.path in COMPUTING_PATHS
        body = b"".join([piece async for piece in request.content.iter_any()])
        if computes:
            async with self._one:
                return await self._compute(request, body)
        self.others.append(f"{request.method} {request.path}")
        return await self._send(request, body, [])

    async def _compute(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        content = json.loads(body)
        if self.bodies is not None:
            number = len(self.asked)
            path = self.bodies / f"{self.session}-{number:02}{request.path.replace('/', '_')}.json"
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False))
        content |= {name: min(content[name], self.tokens) for name in LIMITS if name in content}
        heard: list[bytes] = []
        answer = await self._send(request, json.dumps(content).encode(), heard)
        cached, processed = counts(b"".join(heard).decode("utf-8", "replace"))
        async with self._bare.get("http://x/slots") as slots:
            prompt = str((await slots.json())[0].get("prompt", ""))
        if self.bodies is not None:
            (self.bodies / f"{self.session}-{len(self.asked):02}_prompt.txt").write_text(prompt)
        self.asked.append(Asked(self.session, request.path, len(body), prompt, cached, processed))
        return answer

    async def _send(self, request: web.BaseRequest, body: bytes, heard: list[bytes]) -> web.StreamResponse:
        names = ("content-type", "accept", "anthropic-version", "authorization", "x-api-key")
        head = [(name, value) for name, value in request.headers.items() if name.lower() in names]
        url = self.gate + request.path_qs
        async with self._client.request(request.method, url, data=body, headers=head) as upstream:
            pairs = [
                pair for pair in to_client(upstream.headers.items()) if pair[0].lower() != "content-length"
            ]
            answer = web.StreamResponse(status=upstream.status)
            answer.headers.extend(pairs)
            await answer.prepare(request)
            async for piece in upstream.content.iter_any():
                heard.append(piece)
                with contextlib.suppress(ConnectionResetError):  # a client may leave with the last event
                    await answer.write(piece)
            with contextlib.suppress(ConnectionResetError):
                await answer.write_eof()
            return answer


def counts(answer: str) -> tuple[int, int]:
    """Return the prompt's tokens from the cache and those that were read, as the answer says them."""
    contents = [json.loads(data) for _, data in parse(answer) if data.startswith("{")]
    for content in contents or [json.loads(answer)]:
        usage = _usage(content)
        if usage is not None:
            return usage
    raise ValueError(f"no counts in {answer[-300:]}")


def _usage(content: dict[str, Any]) -> tuple[int, int] | None:
    if isinstance(timings := content.get("timings"), dict):
        return int(timings["cache_n"]), int(timings["prompt_n"])
    usage = (content.get("message") or content).get("usage")
    if isinstance(usage, dict) and "input_tokens" in usage and "cache_read_input_tokens" in usage:
        return int(usage["cache_read_input_tokens"]), int(usage["input_tokens"])
    return None
