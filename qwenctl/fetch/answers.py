"""Decide what an HTTP answer of a hub or a storage means. Pure: no I/O, no clock."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qwenctl.errors import FetchError

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 525, 529})
"""Statuses that pass by themselves. Source: RFC 9110 and 6585; 52x are Cloudflare's."""

EXPIRED = frozenset({400, 401, 403, 404, 410})
"""What a storage answers to a signed link that is too old. Source: S3, CloudFront, Azure error references."""

TOKEN_HINT = "for a private or gated repository set HF_TOKEN or run: hf auth login"  # noqa: S105 - a sentence


class PassingError(FetchError):
    """A failure that may pass by itself. ``server_wait_s``: the wait that the server asked for."""

    def __init__(self, message: str, server_wait_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.server_wait_s = server_wait_s


def server_wait_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a server asks to wait: ``Retry-After`` in seconds, or the hub's ``RateLimit`` t=.

    A date in Retry-After is ignored: it needs a clock that agrees with the server's. ``headers`` must not
    care about upper and lower case.
    """
    retry_after, rate_limit = headers.get("retry-after"), headers.get("ratelimit")
    if retry_after is not None and re.fullmatch(r"\d{1,9}", retry_after.strip()):
        return float(retry_after)
    if rate_limit is not None and (match := re.search(r"r=0\s*;\s*t=(\d{1,9})", rate_limit)):
        return float(match[1])
    return None


def refusal(thing: str, status: int, headers: Mapping[str, str]) -> FetchError:
    """Return the error for a status that is no success. A PassingError may pass by itself."""
    code = headers.get("x-error-code", "")
    if code == "GatedRepo":
        return FetchError(
            f"cannot read {thing}: the repository is gated",
            hint="accept its conditions on the model's page, then set HF_TOKEN or run: hf auth login",
        )
    if code == "EntryNotFound":
        return FetchError(f"cannot find {thing}: no such file at this commit", hint="check [model] file")
    if status in (401, 403):
        return FetchError(f"cannot read {thing}: the hub refuses ({status})", hint=TOKEN_HINT)
    if status == 404:
        return FetchError(
            f"cannot find {thing}: the hub has nothing of this name",
            hint="check [model] repo and [model] revision",
        )
    message = f"cannot read {thing}: the hub answers {status}"
    return PassingError(message, server_wait_s(headers)) if status in PASSING else FetchError(message)


def untrusted(place: str, cause: str) -> FetchError:
    """Return the error for a certificate that no authority of this machine vouches for."""
    return FetchError(
        f"cannot trust {place}: {cause}", hint="set SSL_CERT_FILE to your organisation's certificates"
    )


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
