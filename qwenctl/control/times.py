"""Wall-clock times as people and scripts read them: RFC 3339, UTC."""

import time
from datetime import UTC, datetime


def now() -> str:
    """Return the time."""
    return _text(time.time())


def wall(monotonic: float) -> str:
    """Return the time of a monotonic one. A step of the clock in between shows in it."""
    return _text(time.time() + monotonic - time.monotonic())


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
