"""The client of one OpenAI-compatible endpoint: HTTP requests, streams, and their errors.

A stream ends in one of three ways: it is complete; we close it, which makes llama-server stop; or it is cut
off. Then an event holds an ``error`` object, which the gate sends when the server dies, or it just ends.
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
from qwenctl.client.sse import SseReader
from qwenctl.errors import BrokenOffError, ClientError, RefusedError

CONNECT_TIMEOUT_S = 10.0
SILENCE_S = 600.0
"""Longest time without a byte. Reading a prompt took 77 s once; a gate holds a request for up to 300 s."""
DONE = "[DONE]"


class Api:
    """One endpoint. Use it as a context manager. Threads may share it."""

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
            RefusedError: the endpoint answers with an error.
            ClientError: the endpoint cannot be reached, or its answer is no JSON.
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
        duration_s = self._clock() - started
        return replace(answer, last_s=duration_s)

    @contextlib.contextmanager
    def stream(self, body: Table) -> Iterator["Stream"]:
        """Send a request and yield its answer as a stream. Leaving the context early stops the server's work.

        Raises:
            RefusedError, ClientError: as ``get``.
            BrokenOffError: the answer is cut off; raised while iterating.
        """
        request = {**body, "stream": True, "stream_options": {"include_usage": True}}
        started = (
            self._clock()
        )  # before the response's head: the gate sends it only with the first part of the answer
        with self._faults(), self._http.stream("POST", "/v1/chat/completions", json=request) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                _read(response)
            yield Stream(self.url, response.iter_raw(), self._clock, started)

    def answer(self, body: Table) -> Answer:
        """Send a request, read its stream to the end, and return the answer.

        Raises:
            RefusedError, ClientError, BrokenOffError: as ``stream``.
        """
        with self.stream(body) as stream:
            for _piece in stream:
                pass
            return stream.answer

    def models(self) -> list[str]:
        """Return the names of the models that the endpoint serves.

        Raises:
            RefusedError, ClientError: as ``get``.
        """
        return [text(table(row).get("id")) for row in rows(self.get("/v1/models").get("data"))]

    def props(self) -> Table | None:
        """Return llama-server's ``/props``; None if this is another server, or it does not show them.

        Raises:
            ClientError: the endpoint cannot be reached.
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
                hint="qwenctl status shows whether the server runs",
            ) from error


class Stream:
    """One streamed answer. Iterate over its pieces; ``answer`` is the answer so far."""

    def __init__(self, url: str, chunks: Iterator[bytes], clock: Callable[[], float], started: float) -> None:
        self.answer = Answer()
        self._url, self._chunks, self._clock, self._started = url, chunks, clock, started

    def __iter__(self) -> Iterator[Piece]:
        """Yield the piece that each event added.

        Raises:
            BrokenOffError: the server sent an error, or the stream ended early.
        """
        events = SseReader()
        try:
            for chunk in self._chunks:
                for event in events.feed(chunk):
                    if event == DONE:
                        return
                    yield self._take(event)
        except httpx.HTTPError as error:
            raise self._broken(str(error).lower() or type(error).__name__) from error
        except ValueError as error:
            raise self._broken(f"the stream is not in the format of a chat endpoint ({error})") from error
        if self.answer.finish is None:
            raise self._broken("the stream ended before the answer did")

    def _take(self, event: str) -> Piece:
        event_body = table(json.loads(event))
        if "error" in event_body:
            raise self._broken(error_text(event_body))
        self.answer, piece = grow(self.answer, event_body, self._clock() - self._started)
        return piece

    def _broken(self, why: str) -> BrokenOffError:
        return BrokenOffError(
            f"cannot finish the answer of {self._url}: {why}",
            hint="the server may be restarting; ask again",
        )


def error_text(body: Table) -> str:
    """Return the message of an error body, in any of the usual formats."""
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
    hint = "give a file with the API key: --api-key-file FILE" if response.status_code in (401, 403) else None
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
