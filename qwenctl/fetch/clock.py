"""What a fetch takes from outside: time, chance, patience, and threads for work that blocks.

A test brings its own and waits for nothing.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

from qwenctl.fetch.disk import MARGIN_BYTES

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on without a byte. The waits double from ``first_s`` to ``longest_s``."""

    attempts: int = 12
    first_s: float = 0.25
    longest_s: float = 60.0
    server_longest_s: float = 600.0  # the longest wait that a server may ask for
    connect_s: float = 15.0
    stall_s: float = 30.0


@dataclass(frozen=True, slots=True)
class FetchEnvironment:
    """Monotonic clock, sleep, a number from 0 to 1, and how patient to be."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    spread: Callable[[], float] = random.random
    transfer_policy: RetryPolicy = RetryPolicy()
    metadata_policy: RetryPolicy = RetryPolicy(attempts=6)
    margin_bytes: int = MARGIN_BYTES
    waiting_s: float = 0.5  # between two attempts to take a lock that another process holds


@dataclass(frozen=True, slots=True)
class Background:
    """One piece of work in a thread, as the work itself sees it."""

    loop: asyncio.AbstractEventLoop
    stop: threading.Event = field(default_factory=threading.Event)

    def report(self, callback: Callable[[int], None], value: int) -> None:
        """Call ``callback`` on the event loop's thread, unless nobody waits for this work any more."""
        self.loop.call_soon_threadsafe(self._deliver, callback, value)

    def _deliver(self, callback: Callable[[int], None], value: int) -> None:
        if not self.stop.is_set():
            callback(value)


async def in_thread(work: Callable[[Background], T]) -> T:
    """Run work that blocks in a thread of its own, and return what it returns or raise what it raises.

    A caller that is cancelled is free at once. ``stop`` of the ``Background`` is set then: work that takes
    long must look at it. The thread is a daemon thread, so that it never holds up the end of the process:
    ``asyncio.to_thread`` makes ``asyncio.run`` wait until a file of 16 GB is hashed.
    """
    background = Background(asyncio.get_running_loop())
    answer: asyncio.Future[T] = background.loop.create_future()

    def run() -> None:
        with _Outcome(background.loop, answer) as outcome:
            outcome.value = work(background)

    threading.Thread(target=run, name="fetch", daemon=True).start()
    try:
        return await answer
    finally:
        background.stop.set()


class _Outcome(contextlib.AbstractContextManager["_Outcome[T]"]):
    """Carry a thread's result or exception over to the future of the one who waits for it."""

    value: T

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T]) -> None:
        self._loop = loop
        self._answer = answer

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, error)
        return True

    def _settle(self, error: BaseException | None) -> None:
        if self._answer.done():  # cancelled
            return
        if error is None:
            self._answer.set_result(self.value)
        else:
            self._answer.set_exception(error)
