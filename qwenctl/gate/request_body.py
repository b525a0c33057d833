"""Read request bodies whole, so that a request can be sent again. Their size, time and sum have limits."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp.web_request import BaseRequest

from qwenctl.gate.guard import Deny
from qwenctl.gate.options import GateLimits

PIECE_BYTES = 65_536
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyBudget:
    """The bytes that all bodies together may take. ``max_bytes`` may change at any time."""

    def __init__(self, max_bytes: int) -> None:
        self.used = 0
        self.max_bytes = max_bytes

    def take(self, count: int) -> bool:
        """Take bytes from the budget; return False if it has not so many left."""
        if self.used + count > self.max_bytes:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Return bytes to the budget."""
        self.used -= count


async def read_body(request: BaseRequest, limits: GateLimits, budget: BodyBudget) -> bytearray | Deny:
    """Return the body. Its bytes are taken from ``budget``; the caller gives them back."""
    if not request.can_read_body:
        return bytearray()
    length = request.content_length
    if length is not None and length > limits.max_body_bytes:
        return _too_large(limits)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        await request.writer.write(CONTINUE)
        request.writer.output_size = 0  # the head is still to be sent
    body = bytearray()
    whole = False
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            while data := await request.content.readany():
                if len(body) + len(data) > limits.max_body_bytes:
                    return _too_large(limits)
                if not budget.take(len(data)):
                    return Deny(
                        503, "full", "cannot hold this request: other requests fill the memory for bodies"
                    )
                body += data
        whole = True
    except TimeoutError:
        return Deny(408, "slow", f"cannot read the body: it did not come within {limits.body_timeout_s:g} s")
    finally:
        if not whole:  # the client may also have gone, or its request been cancelled
            budget.give(len(body))
    return body


async def pieces(body: bytearray) -> AsyncIterator[bytes]:
    """Yield a body piece by piece, so that a slow child does not fill the buffers of the gate."""
    for start in range(0, len(body), PIECE_BYTES):
        yield bytes(body[start : start + PIECE_BYTES])


def _too_large(limits: GateLimits) -> Deny:
    return Deny(413, "too_large", f"cannot read the body: it is longer than {limits.max_body_bytes} bytes")
