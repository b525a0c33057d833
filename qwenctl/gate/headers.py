"""Which headers go through the gate. Pure: no I/O."""

from collections.abc import Iterable

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
"""Source: RFC 9110, section 7.6.1."""
NOT_TO_CHILD = HOP_BY_HOP | {"host", "content-length", "expect", "origin"}
"""The gate writes length and host anew, and answers for the origin itself."""
KEYS = frozenset({"authorization", "x-api-key"})
Pairs = list[tuple[str, str]]


def to_child(headers: Iterable[tuple[str, str]], *, keep_keys: bool) -> Pairs:
    """Return what the child gets to see. The gate's own keys stay here."""
    pairs = list(headers)
    dropped = NOT_TO_CHILD | _named(pairs) | (frozenset() if keep_keys else KEYS)
    return [(name, value) for name, value in pairs if name.lower() not in dropped]


def to_client(headers: Iterable[tuple[str, str]]) -> Pairs:
    """Return what the client gets to see: all but the hop's own and the child's open CORS."""
    pairs = list(headers)
    dropped = HOP_BY_HOP | _named(pairs)
    return [
        (name, value)
        for name, value in pairs
        if (low := name.lower()) not in dropped and not low.startswith("access-control-")
    ]


def _named(pairs: Pairs) -> frozenset[str]:
    """Return the headers that ``Connection`` names."""
    return frozenset(
        word.strip().lower()
        for name, value in pairs
        if name.lower() == "connection"
        for word in value.split(",")
    ) - {"content-length", "host", ""}
