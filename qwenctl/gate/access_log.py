"""Format the access log: one line for each request, without prompts and keys. Pure: no I/O."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """What the access log says of a request."""

    client: str
    method: str
    target: str
    status: int
    took_s: float
    held_s: float
    bytes_in: int
    bytes_out: int
    replays: int
    continued: int
    outcome: str


def line(record: AccessRecord) -> str:
    """Return the line. The query is left out: it may hold a key. Unprintable characters are shown as dots."""
    path = re.sub(r"[^!-~]", ".", record.target.partition("?")[0])[:200]
    return (
        f"client={record.client} method={record.method[:16]} path={path} status={record.status}"
        f" ms={record.took_s * 1000:.0f} held_ms={record.held_s * 1000:.0f}"
        f" in={record.bytes_in} out={record.bytes_out} replays={record.replays}"
        f" continued={record.continued} outcome={record.outcome}"
    )
