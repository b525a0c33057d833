"""One request on its way to a child, and what may come back instead of an answer."""

from dataclasses import dataclass
from enum import Enum, auto

import aiohttp
from aiohttp import web

from qwenctl.gate import headers
from qwenctl.gate.continuation.sent_answer import SentAnswer
from qwenctl.gate.response import ResponseWriter
from qwenctl.gate.server_faults import OTHER
from qwenctl.gate.slots.restore_record import AnswerEdges


class ChildLost(Enum):
    """The child was lost, before (WAITING) or after (CUT) part of the answer was sent to the client.

    UNREACHED: it accepted no connection, so nothing of the request reached it. A server that was told to stop
    does so while it finishes its answers.
    """

    UNREACHED = auto()
    WAITING = auto()
    CUT = auto()


@dataclass(frozen=True, slots=True)
class FaultAnswer:
    """An answer which says that the child could not compute. Nothing of it has been sent to the client."""

    status: int
    reason: str | None
    head: headers.Pairs
    body: bytes
    stream: bool

    async def pass_on(self, answer: ResponseWriter) -> web.StreamResponse:
        """Send it to the client after all."""
        if not self.stream:
            return await answer.whole(self.status, self.reason, self.head, self.body)
        await answer.begin(self.status, self.reason, self.head)
        await answer.write(self.body)
        return await answer.end()


class UpstreamRequest:
    """One request as it is sent to a child. It can be sent again to the next child.

    ``judged``: what its answer says about the child is of interest. ``heard`` is what the last answer said.
    ``counted``: each event tells the count of tokens, and its client did not ask for that. ``record``: what
    was sent of its stream; None if the next child can't finish it anyway. ``withheld``: the last events of a
    stream which say that the child can't compute. They are sent if nobody finishes it.
    ``edges``: takes the answer's beginning and end, if they are of interest.
    """

    __slots__ = (
        "_upstream",
        "body",
        "counted",
        "edges",
        "heard",
        "judged",
        "method",
        "pairs",
        "record",
        "target",
        "withheld",
    )

    def __init__(
        self,
        method: str,
        target: str,
        pairs: headers.Pairs,
        body: bytearray,
        *,
        judged: bool = False,
        counted: bool = False,
        record: SentAnswer | None = None,
    ) -> None:
        self.method, self.target, self.pairs, self.body = method, target, pairs, body
        self.counted = counted
        self.judged, self.record, self.heard, self.withheld = judged, record, OTHER, b""
        self._upstream: aiohttp.ClientResponse | None = None
        self.edges: AnswerEdges | None = None

    def answered(self, upstream: aiohttp.ClientResponse | None) -> None:
        """Remember the answer that is being read now."""
        self._upstream = upstream

    def break_off(self) -> None:
        """Cut the connection to the child. The reader of the answer then sees the child as lost."""
        connection = self._upstream.connection if self._upstream is not None else None
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
