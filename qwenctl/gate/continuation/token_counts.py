"""Ask a server how many tokens a request and its continuation have. It computes nothing for that."""

import asyncio
from typing import Any

import aiohttp

from qwenctl.gate.continuation.next_part import TokenCounts
from qwenctl.gate.continuation.sent_answer import SentText
from qwenctl.gate.continuation.splice import StreamFormat

ERRORS = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError)
MOST_PIECES = 20_000
"""So many pieces are counted one by one. In a longer answer some tokens more or less are no matter."""
TIMEOUT_S = 20.0
"""A request of 200,000 tokens is counted in less than 1 s. Measured with SmolLM2 on one core: 0.4 s."""


async def count_tokens(
    client: aiohttp.ClientSession,
    base: str,
    form: StreamFormat,
    asked: dict[str, Any],
    longer: dict[str, Any],
    sent: SentText,
) -> TokenCounts | None:
    """Return the tokens of both requests and of the text so far; None if the server does not tell them."""
    url = base + "/tokenize"
    try:
        if form.count_path is not None:
            first = await _ask(client, base + form.count_path, asked, "input_tokens")
            second = await _ask(client, base + form.count_path, longer, "input_tokens")
        elif isinstance(asked.get("prompt"), str):
            first, second = [
                await _ask(client, url, {"content": each["prompt"], "add_special": True}, "tokens")
                for each in (asked, longer)
            ]
        else:
            return None
        if first is None or second is None:
            return None
        if sent.tokens or sent.pieces > MOST_PIECES:
            return TokenCounts(first, second)
        pieces = await _ask(client, url, {"content": sent.each_piece()}, "tokens")
        both = ["".join(sent.content), "".join(sent.reasoning)]
        joined = await _ask(client, url, {"content": both}, "tokens") if all(both) else 0
        return TokenCounts(first, second, pieces or 0, joined or 0)
    except ERRORS:
        return None


async def _ask(client: aiohttp.ClientSession, url: str, body: dict[str, Any], field: str) -> int | None:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with client.post(url, json=body, timeout=timeout) as answer:
        content = await answer.json(content_type=None) if answer.status == 200 else None
    value = content.get(field) if isinstance(content, dict) else None
    if isinstance(value, list):
        return len(value)
    return value if isinstance(value, int) else None
