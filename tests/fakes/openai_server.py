"""An OpenAI-compatible server that follows a script: one step a request, the last one for ever."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """Answer; streamed in pieces of ``piece`` bytes of the wire, so that events and characters are cut."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[Mapping[str, object], ...] = ()
    finish: str = "stop"
    piece: int = 1 << 20
    timings: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Break:
    """Begin an answer and break it off: with an error event as a gate does, or without a word."""

    text: str = ""
    error: str | None = "the server ended while it answered"


@dataclass(frozen=True)
class Refuse:
    """Refuse with a status and a message."""

    status: int = 503
    message: str = "loading model"


@dataclass(frozen=True)
class Stall:
    """Begin an answer and say no more until the client leaves."""

    text: str = ""


Step = Say | Break | Refuse | Stall


@dataclass
class Scripted:
    """The server while it runs: where it is, and what it was asked."""

    url: str
    script: list[Step]
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    pages: dict[str, object] = field(default_factory=dict)
    left: threading.Event = field(default_factory=threading.Event)

    def next(self) -> Step:
        """The step for the next request."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def serving(script: Sequence[Step], pages: Mapping[str, object] | None = None) -> Iterator[Scripted]:
    """Serve ``script`` on loopback while the context is open; ``pages`` answer GET."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    scripted = Scripted(f"http://127.0.0.1:{server.server_address[1]}", list(script))
    scripted.pages = {
        "/v1/models": {"data": [{"id": "scripted"}]},
        "/health": {"status": "ok"},
        **(pages or {}),
    }
    server.scripted = scripted  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield scripted
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        del format, args

    @property
    def scripted(self) -> Scripted:
        found = self.server.scripted  # type: ignore[attr-defined]
        assert isinstance(found, Scripted)
        return found

    def do_GET(self) -> None:
        page = self.scripted.pages.get(self.path)
        self._send(404 if page is None else 200, page or {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.scripted.asked.append(body)
        self.scripted.keys.append(self.headers["Authorization"])
        match self.scripted.next():
            case Refuse(status, message):
                self._send(status, {"error": {"message": message, "code": status}})
            case Say() as say if not body.get("stream"):
                said: dict[str, object] = {"role": "assistant", "content": say.text}
                said |= {"reasoning_content": say.reasoning, "tool_calls": list(say.calls)}
                choice = {"finish_reason": say.finish, "message": said}
                self._send(200, {"choices": [choice], **_counts(say)})
            case Say() as say:
                self._stream(_events(say), say.piece)
            case Break(text, error):
                last: list[object] = [{"error": {"message": error, "type": "server_error"}}] if error else []
                self._stream([_delta({"content": text}), *last], 1 << 20, done=False)
            case Stall(text):
                self._stream([_delta({"content": text})], 1 << 20, done=False)
                self.connection.recv(1)  # comes back when the client leaves
                self.scripted.left.set()

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Sequence[object], piece: int, *, done: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        lines = ["data: " + json.dumps(event, ensure_ascii=False) for event in events]
        wire = (
            ": a comment\n\n"
            + "".join(f"{line}\n\n" for line in lines)
            + ("data: [DONE]\n\n" if done else "")
        )
        data = wire.encode()
        for start in range(0, len(data), piece):
            self.wfile.write(data[start : start + piece])
            self.wfile.flush()


def _events(say: Say) -> list[object]:
    pieces: list[object] = [_delta({"role": "assistant", "content": None})]
    pieces += [_delta({"reasoning_content": word}) for word in say.reasoning.split(" ") if word]
    pieces += [_delta({"content": line}) for line in say.text.splitlines(keepends=True)]
    pieces += [_delta({"tool_calls": [{"index": n, **call}]}) for n, call in enumerate(say.calls)]
    return [
        *pieces,
        {"choices": [{"finish_reason": say.finish, "delta": {}}]},
        {"choices": [], **_counts(say)},
    ]


def _delta(delta: Mapping[str, object]) -> dict[str, object]:
    return {"choices": [{"finish_reason": None, "index": 0, "delta": delta}]}


def _counts(say: Say) -> dict[str, object]:
    usage = {"prompt_tokens": 10, "completion_tokens": max(1, len(say.text.split()))}
    return {"usage": usage, "model": "scripted", **({"timings": say.timings} if say.timings else {})}
