"""Decide what a failed request means and how long to wait before the next one. Pure: no I/O, no clock."""

import re
from dataclasses import dataclass

from qwenctl.errors import FetchError

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 529})
"""Statuses that pass by themselves. Source: RFC 9110 and 6585; 52x are Cloudflare's."""

EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What a storage answers to a signed link that is too old. Source: S3, CloudFront, Azure error references."""


class PassingError(FetchError):
    """A failure that passes by itself. ``asked_s``: the wait the server asked for."""

    def __init__(self, message: str, asked_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.asked_s = asked_s


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to go on without a byte. The waits double from ``first_s`` to ``longest_s``."""

    attempts: int = 12
    first_s: float = 0.25
    longest_s: float = 60.0
    asked_longest_s: float = 600.0
    connect_s: float = 15.0
    stall_s: float = 30.0


def wait_s(failures: int, asked_s: float | None, patience: RetryPolicy, spread: float) -> float:
    """Return the wait after the n-th failure in a row, ``failures`` from 1.

    What the server asked for counts, within reason. ``spread`` from 0 to 1 keeps clients apart: a wait is
    between 75 and 100 % of its step.
    """
    if asked_s is not None:
        return min(asked_s, patience.asked_longest_s)
    step = min(patience.first_s * 2.0 ** (failures - 1), patience.longest_s)
    return step * (0.75 + 0.25 * spread)


def asked_s(retry_after: str | None, rate_limit: str | None) -> float | None:
    """Return the seconds a server asks to wait: ``Retry-After`` in seconds, or the hub's ``RateLimit`` t=.

    A date in Retry-After needs a clock that agrees with the server's; it counts as not asked.
    """
    if retry_after is not None and re.fullmatch(r"\d{1,9}", retry_after.strip()):
        return float(retry_after)
    if rate_limit is not None and (match := re.search(r"r=0\s*;\s*t=(\d{1,9})", rate_limit)):
        return float(match[1])
    return None


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What part of a file an answer holds: ``start`` to ``end`` (exclusive) of ``total`` bytes."""

    start: int
    end: int
    total: int | None


def content_range(text: str | None) -> ContentRange | None:
    """Read a Content-Range header; None if there is none or it makes no sense."""
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", text.strip()) if text else None
    if match is None or int(match[2]) < int(match[1]):
        return None
    return ContentRange(int(match[1]), int(match[2]) + 1, None if match[3] == "*" else int(match[3]))
