"""Talk to one OpenAI-compatible endpoint. Knows HTTP and its faults; what to ask is others' business.

A stream ends in one of three ways: complete, closed by us (which makes llama-server stop), or broken off:
an ``error`` object in an event (what the gate sends when the server dies) or no end at all.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from types import TracebackType
from urllib.parse import urlsplit

import httpx

from qwenctl.client.answer import Answer, Piece, Table, grow, rows, table, text, whole
from qwenctl.client.sse import Events
from qwenctl.errors import BrokenOffError, ClientError, RefusedError

CONNECT_TIMEOUT_S = 10.0
SILENCE_S = 600.0
"""How long nothing at all may come. A prompt was read for 77 s without a word; a gate holds for 300 s."""
DONE = "[DONE]"


class Api:
    """One endpoint. Use it as a context; it may be shared by threads."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        silence_s: float = SILENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._clock = clock
        self._http = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=not _is_loopback(self.url),
            limits=httpx.Limits(max_keepalive_connections=0),  # llama-server closes idle ones unasked
        )

    def __enter__(self) -> "Api":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str) -> Table:
        """Return the JSON object at ``path``.

        Raises:
            RefusedError: it answers with an error.
            ClientError: it cannot be reached, or answers no JSON.
        """
        with self._faults():
            response = self._http.get(path)
        return _read(response)

    def ask(self, body: Table) -> Answer:
        """Return the answer to a chat request that does not stream.

        Raises:
            RefusedError, ClientError: as ``get``.
        """
        started = self._clock()
        with self._faults():
            response = self._http.post("/v1/chat/completions", json={**body, "stream": False})
        answer = whole(_read(response))
        if answer.finish is None:
            raise ClientError(f"cannot use the answer of {self.url}: it has no finish_reason")
        took = self._clock() - started
        return replace(answer, last_s=took)

    @contextlib.contextmanager
    def stream(self, body: Table) -> Iterator["Stream"]:
        """Ask, and yield the answer as a stream. Leaving the context early stops the server's work.

        Raises:
            RefusedError, ClientError: as ``get``.
            BrokenOffError: the answer ended before its end; while iterating.
        """
        wanted = {**body, "stream": True, "stream_options": {"include_usage": True}}
        started = self._clock()  # before the head: a gate holds it back until there is an answer
        with self._faults(), self._http.stream("POST", "/v1/chat/completions", json=wanted) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                _read(response)
            yield Stream(self.url, response.iter_raw(), self._clock, started)

    def answer(self, body: Table) -> Answer:
        """Ask, read the stream to its end, return the answer.

        Raises:
            RefusedError, ClientError, BrokenOffError: as ``stream``.
        """
        with self.stream(body) as stream:
            for _piece in stream:
                pass
            return stream.answer

    def models(self) -> list[str]:
        """Return the names of the models it serves.

        Raises:
            RefusedError, ClientError: as ``get``.
        """
        return [text(table(row).get("id")) for row in rows(self.get("/v1/models").get("data"))]

    def props(self) -> Table | None:
        """Return what a llama-server says of itself; None if this is none, or does not tell.

        Raises:
            ClientError: it cannot be reached.
        """
        try:
            props = self.get("/props")
        except RefusedError:
            return None
        return props if "default_generation_settings" in props else None

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise ClientError(f"cannot reach {self.url}: no answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ClientError(
                f"cannot reach {self.url}: {str(error).lower() or type(error).__name__}",
                hint="qwenctl status shows whether it runs",
            ) from error


class Stream:
    """One streamed answer: iterate for its pieces; ``answer`` is what has arrived so far."""

    def __init__(self, url: str, chunks: Iterator[bytes], clock: Callable[[], float], started: float) -> None:
        self.answer = Answer()
        self._url, self._chunks, self._clock, self._started = url, chunks, clock, started

    def __iter__(self) -> Iterator[Piece]:
        """Yield what each event added.

        Raises:
            BrokenOffError: the server said so, or fell silent.
        """
        events = Events()
        try:
            for chunk in self._chunks:
                for event in events.feed(chunk):
                    if event == DONE:
                        return
                    yield self._take(event)
        except httpx.HTTPError as error:
            raise self._broken(str(error).lower() or type(error).__name__) from error
        except ValueError as error:
            raise self._broken(f"not what a chat endpoint sends ({error})") from error
        if self.answer.finish is None:
            raise self._broken("the stream ended before the answer did")

    def _take(self, event: str) -> Piece:
        said = table(json.loads(event))
        if "error" in said:
            raise self._broken(error_text(said))
        self.answer, piece = grow(self.answer, said, self._clock() - self._started)
        return piece

    def _broken(self, why: str) -> BrokenOffError:
        return BrokenOffError(
            f"cannot finish the answer of {self._url}: {why}",
            hint="the server may be starting again: ask again",
        )


def error_text(body: Table) -> str:
    """Return the words of an error body in any of the usual shapes."""
    error = body.get("error")
    return text(error) or text(table(error).get("message")) or text(body.get("detail")) or "no reason given"


def _read(response: httpx.Response) -> Table:
    try:
        body = response.json()
    except ValueError as error:
        if response.is_success:
            raise ClientError(f"cannot use the answer of {response.url}: it is no JSON") from error
        body = {}
    if response.is_success:
        return table(body)
    hint = "--api-key-file names a file with the key" if response.status_code in (401, 403) else None
    raise RefusedError(
        f"cannot ask {response.url}: {error_text(table(body))} (HTTP {response.status_code})",
        response.status_code,
        hint,
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
