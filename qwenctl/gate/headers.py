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
NOT_TO_CHILD = HOP_BY_HOP | {"host", "content-length", "expect", "origin", "x-conversation-id"}
"""The gate writes its own length and host, it has checked the origin, and it keeps answers itself."""
KEYS = frozenset({"authorization", "x-api-key"})
Pairs = list[tuple[str, str]]
SERVER = {"Server": "qwenctl"}
"""The gate's name in answers of its own. aiohttp would tell its version and Python's to anybody."""


def to_child(headers: Iterable[tuple[str, str]], *, keep_keys: bool) -> Pairs:
    """Return the headers for the child. Keys of the gate are left out unless ``keep_keys``."""
    pairs = list(headers)
    dropped = NOT_TO_CHILD | _named(pairs) | (frozenset() if keep_keys else KEYS)
    return [(name, value) for name, value in pairs if name.lower() not in dropped]


def to_client(headers: Iterable[tuple[str, str]]) -> Pairs:
    """Return the headers for the client. Hop-by-hop headers and the child's CORS headers are left out."""
    pairs = list(headers)
    dropped = HOP_BY_HOP | _named(pairs)
    return [
        (name, value)
        for name, value in pairs
        if (low := name.lower()) not in dropped and not low.startswith("access-control-")
    ]


def _named(pairs: Pairs) -> frozenset[str]:
    """Return the headers that ``Connection`` names: they are hop-by-hop, too."""
    return frozenset(
        word.strip().lower()
        for name, value in pairs
        if name.lower() == "connection"
        for word in value.split(",")
    ) - {"content-length", "host", ""}
