"""What a transfer takes from outside: time, chance, patience. A test brings its own and waits for nothing."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from qwenctl.fetch.disk import MARGIN_BYTES
from qwenctl.fetch.retry import RetryPolicy

PATIENCE = RetryPolicy()
ASK_PATIENCE = RetryPolicy(attempts=6)  # for metadata: someone waits, and nothing is half done


@dataclass(frozen=True, slots=True)
class FetchEnvironment:
    """Monotonic clock, sleep, a number from 0 to 1, and how patient to be."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    spread: Callable[[], float] = random.random
    patience: RetryPolicy = PATIENCE
    ask_patience: RetryPolicy = ASK_PATIENCE
    margin_bytes: int = MARGIN_BYTES
    waiting_s: float = 0.5  # between two looks at a lock somebody else holds
