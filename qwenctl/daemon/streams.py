"""Answer GET /v1/events and /v1/logs: what there is, then what comes, until the reader goes.

``?n=10`` says how many old lines, ``?follow=0`` ends after them.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from qwenctl.control.log_reader import LogReader
from qwenctl.daemon.event_log import REMEMBERED, EventLog
from qwenctl.errors import SettingsError

DEFAULT_LINES = 100
MOST_LINES = 100_000
POLL_S = 0.2


async def events(request: web.Request, journal: EventLog) -> web.StreamResponse:
    """Stream the events as JSON lines.

    Raises:
        SettingsError: a parameter is wrong.
    """
    count, follow = _parameters(request)
    told = max(journal.written - min(count, REMEMBERED), 0)

    def news() -> list[str]:
        nonlocal told
        lines = journal.since(told)
        told = journal.written
        return lines

    return await _stream(request, "application/x-ndjson", news, follow=follow)


async def logs(request: web.Request, path: Path) -> web.StreamResponse:
    """Stream what the server printed, as it was printed.

    Raises:
        SettingsError: a parameter is wrong.
    """
    count, follow = _parameters(request)
    follower = LogReader(path)
    old = [await asyncio.to_thread(follower.last, count)]
    try:
        return await _stream(
            request, "text/plain", lambda: old.pop() if old else follower.more(), follow=follow
        )
    finally:
        follower.close()


async def _stream(
    request: web.Request, kind: str, news: Callable[[], list[str]], *, follow: bool
) -> web.StreamResponse:
    answer = web.StreamResponse(
        headers={"Content-Type": f"{kind}; charset=utf-8", "Cache-Control": "no-store"}
    )
    await answer.prepare(request)
    while True:
        lines = news()
        if lines:
            await answer.write("".join(f"{line}\n" for line in lines).encode())
        elif follow:
            if request.transport is None or request.transport.is_closing():
                break
            await asyncio.sleep(POLL_S)
        if not follow:
            break
    return answer


def _parameters(request: web.Request) -> tuple[int, bool]:
    count, follow = request.query.get("n", str(DEFAULT_LINES)), request.query.get("follow", "1")
    if not count.isdecimal() or int(count) > MOST_LINES:
        raise SettingsError(f"cannot show lines: n is a number up to {MOST_LINES}, not {count!r}")
    if follow not in ("0", "1"):
        raise SettingsError(f"cannot show lines: follow is 0 or 1, not {follow!r}")
    return int(count), follow == "1"
