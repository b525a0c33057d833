"""Read request bodies: whole, as a replay needs them, and bounded in size, time and sum."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp.web_request import BaseRequest

from qwenctl.gate.guard import Deny
from qwenctl.gate.limits import GateLimits

PIECE_BYTES = 65_536
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyBudget:
    """What all bodies together may take."""

    def __init__(self, max_bytes: int) -> None:
        self.used = 0
        self._max_bytes = max_bytes

    def take(self, count: int) -> bool:
        """Return whether there was room."""
        if self.used + count > self._max_bytes:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Return what was taken."""
        self.used -= count


async def read_body(request: BaseRequest, limits: GateLimits, budget: BodyBudget) -> bytearray | Deny:
    """Return the body; what it takes of ``budget`` is the caller's to give back."""
    if not request.can_read_body:
        return bytearray()
    length = request.content_length
    if length is not None and length > limits.max_body_bytes:
        return _too_large(limits)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(CONTINUE)
        request.writer.output_size = 0  # the head is still to be sent
    body = bytearray()
    denied: Deny | None = None
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            while data := await request.content.readany():
                if len(body) + len(data) > limits.max_body_bytes:
                    denied = _too_large(limits)
                elif not budget.take(len(data)):
                    denied = Deny(
                        503, "full", "cannot hold more requests: their bodies fill the memory for them"
                    )
                else:
                    body += data
                    continue
                break
    except TimeoutError:
        denied = Deny(408, "slow", f"cannot wait longer for the body: {limits.body_timeout_s:g} s are over")
    if denied is not None:
        budget.give(len(body))
        return denied
    return body


async def pieces(body: bytearray) -> AsyncIterator[bytes]:
    """Yield a body piece by piece, so that a slow child does not fill our buffers."""
    for start in range(0, len(body), PIECE_BYTES):
        yield bytes(body[start : start + PIECE_BYTES])


def _too_large(limits: GateLimits) -> Deny:
    return Deny(413, "too_large", f"cannot take this body: at most {limits.max_body_bytes} bytes")
