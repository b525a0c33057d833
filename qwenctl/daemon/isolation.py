"""Keep one part's unexpected error from ending the others: it is logged and told, and the daemon goes on.

The supervisor, the gate and the control socket are vital: they run from the daemon's first moment to its
last. Loops beside them restart themselves. This is the only place of the daemon that catches every error.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from qwenctl.daemon.troubles import Troubles

log = logging.getLogger(__name__)

RESTART_AFTER_S = 1.0
"""A loop that failed begins again after this time, so that a lasting fault does not fill the log."""
STEADY_AFTER_S = 60.0
"""A loop that was started again and has run for this long is no trouble any more."""
T = TypeVar("T")


async def contained(work: Awaitable[T], on_bug: Callable[[Exception], T]) -> T:
    """Return what ``work`` returns, or what ``on_bug`` makes of an unexpected error, which is logged."""
    try:
        return await work
    except Exception as error:
        log.exception("unexpected error, please report it")
        return on_bug(error)


def contained_now(work: Callable[[], T], on_bug: Callable[[Exception], T]) -> T:
    """Return what ``work`` returns; like ``contained`` for work that is done at once."""
    try:
        return work()
    except Exception as error:
        log.exception("unexpected error, please report it")
        return on_bug(error)


async def keep_running(name: str, loop: Callable[[], Awaitable[None]], troubles: Troubles) -> None:
    """Run a loop that never ends by itself, again and again if it fails."""

    async def once() -> str | None:
        await loop()
        return None

    def failed(error: Exception) -> str:
        return f"{name} failed and was started again: {describe(error)}"

    while True:
        running = asyncio.ensure_future(contained(once(), failed))
        try:
            ended, _ = await asyncio.wait({running}, timeout=STEADY_AFTER_S)
            if not ended:
                troubles.set_loop(name, None)
            troubles.set_loop(name, await running)
        finally:
            running.cancel()
        await asyncio.sleep(RESTART_AFTER_S)


def describe(error: Exception) -> str:
    """Return an unexpected error in one line, for the status; its traceback is in the daemon's log."""
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no text'} (qwenctl logs --daemon shows more)"
