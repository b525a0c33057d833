"""The attacks on the gate: bytes as they go over the wire, and what may come of them. Run by gate_attacks."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.gate.test_guard import POST, SMUGGLED, SMUGGLING_REQUESTS

KEY = "sesame"
CLOSED = "closed"
MIB = 1 << 20
PAGE = "Origin: https://evil.example"
SLOT_PATHS = tuple(
    r"""
    /slots /slots/ /SLOTS /Slots /slots?x //slots ///slots /./slots /a/../slots /%2e/slots /%2e%2e/slots
    /a/%2E%2e/slots /..;/slots /;/slots /%73lots /slo%74s /%2fslots /slots%2f0 /slots%00 /slots\0 /\slots
    /slots%20 /slots%0a /x/slots /v1/slots /slots;x /slots.json /slots#x * slots http://localhost/slots
    """.split()
)


@dataclass(frozen=True, slots=True)
class Attack:
    """``expected``: status codes of the answers, "4xx" for any refusal of one request, or CLOSED.

    ``keyed``: tried where a key is asked for. ``body_bytes``: so much is sent in chunks behind ``sent``.
    """

    name: str
    sent: str
    expected: tuple[str, ...]
    keyed: bool = False
    body_bytes: int = 0


def request(line: str, *headers: str, host: str = "localhost") -> str:
    """Return a request that ends its connection."""
    return "\r\n".join((f"{line} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""))


def keys() -> Iterator[Attack]:
    """Without the right key."""
    chat = "POST /v1/chat/completions"
    for name, headers in (
        ("no key", ()),
        ("wrong key", ("Authorization: Bearer sesamE",)),
        ("key cut short", ("Authorization: Bearer sesam",)),
        ("empty key", ("Authorization: Bearer ",)),
        ("Basic instead of Bearer", ("Authorization: Basic sesame",)),
        ("key in the query", ()),
        ("wrong X-Api-Key", ("X-Api-Key: x",)),
    ):
        line = f"{chat}?api_key={KEY}" if "query" in name else chat
        yield Attack(name, request(line, *headers), ("401",), keyed=True)
    yield Attack("no key, GET /v1/models", request("GET /v1/models"), ("401",), keyed=True)
    yield Attack("no key, a static suffix in the query", request("GET /props?x=/a.js"), ("401",), keyed=True)
    right = f"Authorization: Bearer {KEY}"
    yield Attack("right key, a foreign page", request(chat, right, PAGE), ("403",), keyed=True)
    yield Attack("right key, the slots", request("GET /slots", right), ("403",), keyed=True)
    yield Attack(
        "wrong key, rebound host", request(chat, "X-Api-Key: x", host="evil.example"), ("403",), keyed=True
    )


def pages() -> Iterator[Attack]:
    """From a web page that a person visits."""
    names = (
        "evil.example",
        "127.0.0.1.nip.io",
        "localhost.evil.example",
        "192.168.1.7",
        "localhost@evil",
        "",
    )
    for host in names:
        yield Attack(
            f"rebound name: Host {host or '(empty)'}", request("GET /v1/models", host=host), ("403",)
        )
    twice = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    yield Attack("two Host headers", twice, ("400",))
    yield Attack("absolute target of another host", SMUGGLING_REQUESTS["absolute form"], ("400", "403"))
    for origin in ("https://evil.example", "http://localhost.evil.example", "null", "file://"):
        yield Attack(f"page of {origin}", request("POST /v1/completions", f"Origin: {origin}"), ("403",))
    asks = ("Access-Control-Request-Method: POST", "Access-Control-Request-Private-Network: true")
    preflight = request("OPTIONS /v1/completions", PAGE, *asks)
    yield Attack("preflight of a foreign page", preflight, ("403",))
    hidden = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors")
    yield Attack("image tag of another site", request("GET /v1/models", *hidden), ("403",))
    simple = ("Content-Type: text/plain", "Content-Length: 0", PAGE)
    yield Attack("form of another site, no preflight", request("POST /v1/completions", *simple), ("403",))
    yield Attack("WebSocket", request("GET /", "Upgrade: websocket"), ("501",))


def paths() -> Iterator[Attack]:
    """To the slots, which hold other people's prompts, and to what the owner alone may set."""
    for target in SLOT_PATHS:
        for method in ("GET", "POST"):
            line = f"{method} {target}"
            yield Attack(line.replace("\0", "NUL"), request(line), ("400", "403", "404"))
    yield Attack("POST /slots/0?action=erase", request("POST /slots/0?action=erase"), ("403",))
    yield Attack("POST /slots/0?action=save", request("POST /slots/0?action=save"), ("403",))
    yield Attack("POST /props", request("POST /props", "Content-Length: 2") + "{}", ("403",))
    yield Attack("POST /PROPS", request("POST /PROPS", "Content-Length: 2") + "{}", ("403",))
    for method in ("CONNECT", "TRACE", "TRACK"):
        yield Attack(f"{method} /", request(f"{method} /"), ("405", "400"))


def shapes() -> Iterator[Attack]:
    """Two requests in one, for a gate and a server that read it differently; and what is too large."""
    chunked, end = f"{POST}Transfer-Encoding: chunked\r\n", "\r\n0\r\n\r\n"
    more = {
        "both lengths, in the other order": f"{chunked}Content-Length: 4\r\n{end}{SMUGGLED}",
        "two equal lengths": f"{POST}Content-Length: 0\r\nContent-Length: 0\r\n\r\n{SMUGGLED}",
        "length with a sign": f"{POST}Content-Length: +0\r\n\r\n{SMUGGLED}",
        "length as a list": f"{POST}Content-Length: 0, 0\r\n\r\n{SMUGGLED}",
        "coding twice": f"{chunked}Transfer-Encoding: identity\r\n{end}{SMUGGLED}",
        "odd space before chunked": f"{POST}Transfer-Encoding:\x0bchunked\r\n{end}{SMUGGLED}",
        "line feed in a chunk extension": f"{chunked}\r\n0;a\nb\r\n\r\n{SMUGGLED}",
        "bare carriage return in a header": f"{POST}X: y\rContent-Length: 90\r\n\r\n{SMUGGLED}",
        "NUL in a header": f"{POST}X: y\0z\r\n\r\n{SMUGGLED}",
        "chunk of a huge size": f"{chunked}\r\nffffffffffffffffff\r\n{SMUGGLED}",
        "no version": "GET /slots\r\n\r\n",
        "version 2.0": "GET /slots HTTP/2.0\r\nHost: localhost\r\n\r\n",
    }
    for name, text in (SMUGGLING_REQUESTS | more).items():
        yield Attack(name, text, ("4xx", CLOSED))
    extension = f"{chunked}Connection: close\r\n\r\n0;a=b\r\n\r\n"
    yield Attack("chunk extension, nothing behind it", extension, ("4xx", "5xx", "200", CLOSED))
    follow = f"{POST}Content-Length: 2\r\n\r\n{{}}{SMUGGLED}"
    yield Attack("a second request in plain sight", follow, ("200 403",))
    large = f"{POST}Content-Length: {64 * MIB + 1}\r\n\r\n"
    yield Attack("body of 64 MiB and a byte, announced", large, ("413",))
    yield Attack("body of 80 MiB, in chunks", f"{chunked}\r\n", ("413",), body_bytes=80 * MIB)


def slow() -> Iterator[Attack]:
    """Clients that take their time."""
    yield Attack("half a head, then silence", "POST /tokenize HTTP/1.1\r\nHost: loc", (CLOSED,))
    yield Attack("half a body, then silence", f"{POST}Content-Length: 10\r\n\r\n{{", ("408",))
    yield Attack("nothing at all", "", (CLOSED,))
