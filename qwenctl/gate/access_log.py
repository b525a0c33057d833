"""One line for each request, without prompts and keys. Pure: no I/O."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """What is remembered of a request."""

    client: str
    method: str
    target: str
    status: int
    took_s: float
    held_s: float
    bytes_in: int
    bytes_out: int
    replays: int
    outcome: str


def line(visit: AccessRecord) -> str:
    """Return the line. The query is left out (a key may hide in it); odd characters are shown as dots."""
    path = re.sub(r"[^!-~]", ".", visit.target.partition("?")[0])[:200]
    return (
        f"client={visit.client} method={visit.method[:16]} path={path} status={visit.status}"
        f" ms={visit.took_s * 1000:.0f} held_ms={visit.held_s * 1000:.0f}"
        f" in={visit.bytes_in} out={visit.bytes_out} replays={visit.replays} outcome={visit.outcome}"
    )
