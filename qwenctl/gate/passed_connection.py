"""What another program is told of a client's connection, to serve it on. Pure: no I/O.

A connection can be passed on between two requests. What has come of the next one by then goes along, byte for
byte. The parser of aiohttp does not say how much it holds back, so it is followed here.
"""

from dataclasses import dataclass

from qwenctl.engine.address import Address

HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class PassedConnection:
    """A client between two requests. ``first``: what was read of its next one, in hexadecimal digits."""

    descriptor: int
    first: str = ""


@dataclass(frozen=True, slots=True)
class PassedAddress:
    """An address where the gate listens. ``sockets`` are our own: those of a service manager go apart."""

    address: Address
    sockets: tuple[int, ...] = ()
    connections: tuple[PassedConnection, ...] = ()


@dataclass(frozen=True, slots=True)
class PassedStream:
    """A finished answer that is kept for its conversation. ``content``: its bytes in hexadecimal digits."""

    conversation: str
    started_at: int
    completed_at: int
    status: int
    reason: str | None
    headers: tuple[tuple[str, str], ...]
    dropped: int
    content: str


@dataclass(frozen=True, slots=True)
class BodySeen:
    """What the parser has of the newest request's body. ``framed``: it comes in chunks of HTTP's own."""

    total_bytes: int
    whole: bool
    framed: bool


@dataclass(slots=True)
class RequestBoundary:
    """Follows one connection. ``rest`` is the beginning of a request whose head is not whole yet.

    None: nobody can tell, because a client sent several requests at once. The next whole one settles it.
    """

    rest: bytes | None = b""
    _body_bytes: int = 0  # of a body that is not whole yet
    _in_body: bool = False

    def note(self, data: bytes, heads: int, body: BodySeen) -> None:
        """Take what was read, how many heads became whole by that, and what there is of the last body."""
        if heads == 0 and not self._in_body:
            self.rest = None if self.rest is None else self.rest + data
            return
        if heads == 0:
            after, in_body = data, body.total_bytes - self._body_bytes
        else:
            whole = (self.rest or b"") + data
            head, _, after = whole.partition(HEAD_END)
            in_body = body.total_bytes
            if heads > 1 or len(head) == len(whole):
                after, in_body = data, -1
        self._in_body, self._body_bytes = not body.whole, body.total_bytes
        if self._in_body:
            self.rest = b""
        elif body.framed or in_body < 0:
            self.rest = b"" if data.endswith(HEAD_END) else None  # no unfinished head ends so
        else:
            self.rest = after[in_body:]
