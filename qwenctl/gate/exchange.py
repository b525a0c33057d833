"""One request and what became of it so far: the data that the proxy, its answers and the access log share."""

from aiohttp.web_request import BaseRequest

from qwenctl.gate.access_log import AccessRecord
from qwenctl.gate.continuation.splice import FORMATS, StreamFormat
from qwenctl.gate.kept_streams import CONVERSATION_HEADER
from qwenctl.gate.response import ResponseWriter
from qwenctl.gate.server_faults import computes
from qwenctl.gate.upstream import is_use
from qwenctl.gate.upstream_request import FaultAnswer, UpstreamRequest


class Exchange:
    """One request, its answer, and how often it was sent.

    ``held_s``: how long it has waited for children, all times together. ``crashes_alone``: children that
    crashed while it was their only request. ``tries_on_child``: how often the present child closed its
    connection and went on running. ``conversation``: its answer goes on without its client. ``form``: how its
    stream could be finished by the next child; ``continued``: how many children were asked to.
    ``fault``: the last answer of a child that could not compute, and ``faulty_child`` the child that got the
    request again after such an answer. ``outcome`` is for the access log; ``gone``: the client left before
    anything better was known.
    """

    def __init__(self, request: BaseRequest, path: str, answer: ResponseWriter, now: float) -> None:
        self.request, self.path, self.answer, self.arrived = request, path, answer, now
        self.use = is_use(request.method, path)
        self.computes = computes(request.method, path)
        self.conversation = request.headers.get(CONVERSATION_HEADER) if request.method == "POST" else None
        self.form: StreamFormat | None = FORMATS.get(path) if request.method == "POST" else None
        self.continued = 0
        self.body = bytearray()
        self.budget_bytes, self.owns_body = 0, True  # what its body takes of the budget
        self.held_s = 0.0
        self.sent = 0
        self.upstream_request: UpstreamRequest | None = None
        self.crashes_alone = 0
        self.tries_on_child = 0
        self.fault: FaultAnswer | None = None
        self.faulty_child = 0
        self.outcome = "gone"

    @property
    def memory_bytes(self) -> int:
        """What it takes of the budget: its body, and what is kept of its answer."""
        record = self.upstream_request.record if self.upstream_request is not None else None
        return (self.budget_bytes if self.owns_body else 0) + (record.charged if record is not None else 0)

    @property
    def bytes_computed(self) -> int:
        """The bytes of its answer so far, if the child had to compute that answer."""
        return self.answer.bytes_out if self.computes and self.answer.status == 200 else 0

    def record(self, now: float) -> AccessRecord:
        """Return what the access log says of it."""
        return AccessRecord(
            client=self.request.remote or "local",
            method=self.request.method,
            target=self.request.raw_path,
            status=self.answer.status,
            took_s=now - self.arrived,
            held_s=self.held_s,
            bytes_in=self.budget_bytes,
            bytes_out=self.answer.bytes_out,
            replays=max(self.sent - 1, 0),
            continued=self.continued,
            outcome=self.outcome,
        )
