"""Ask again while a failure may pass by itself: the one retry loop of metadata, headers and bytes."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp

from qwenctl.errors import FetchError
from qwenctl.fetch.answers import PassingError, untrusted
from qwenctl.fetch.clock import FetchEnvironment, RetryPolicy

T = TypeVar("T")

PROGRESS_BYTES = 2**18
"""An attempt that brought this much was no failure in a row: the next wait is the first one again."""


async def retry(
    question: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    environment: FetchEnvironment,
    *,
    give_up: Callable[[Exception, int], FetchError],
    done_bytes: Callable[[], int] = lambda: 0,
    on_failure: Callable[[], None] = lambda: None,
) -> T:
    """Return the answer to ``question``, which is asked again after a failure that may pass by itself.

    After each failure, in this order: 1. A certificate that is not trusted ends it. 2. So does the last of
    ``policy.attempts`` failures in a row; ``give_up`` makes the error. 3. Wait, then ask again.

    Raises:
        FetchError: the failure does not pass, or did not pass in time.
    """
    failures = 0
    while True:
        before = done_bytes()
        try:
            return await question()
        except (aiohttp.ClientError, EOFError, TimeoutError, PassingError) as error:
            failures = 1 if done_bytes() - before >= PROGRESS_BYTES else failures + 1
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise untrusted("the storage", str(error)) from error
            if failures >= policy.attempts:
                raise give_up(error, failures) from error
            wanted_s = error.server_wait_s if isinstance(error, PassingError) else None
        on_failure()
        await environment.sleep(wait_s(failures, wanted_s, policy, environment.spread()))


def wait_s(failures: int, server_wait_s: float | None, policy: RetryPolicy, spread: float) -> float:
    """Return the wait after the n-th failure in a row, ``failures`` from 1.

    A wait that the server asked for is kept to, up to ``server_longest_s``. ``spread`` from 0 to 1 keeps
    clients apart: a wait is between 75 and 100 % of its step.
    """
    if server_wait_s is not None:
        return min(server_wait_s, policy.server_longest_s)
    step = min(policy.first_s * 2.0 ** (failures - 1), policy.longest_s)
    return step * (0.75 + 0.25 * spread)
