"""Move one file's bytes: several ranged connections, resumable, hashed behind the growing prefix.

What is promised: a range is in the journal only when its bytes are synced, so a kill at any moment costs each
connection at most the range it was working on. The caller compares the hash.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import aiohttp

from qwenctl.errors import FetchError
from qwenctl.fetch.clock import FetchEnvironment
from qwenctl.fetch.disk import PartialFile, cannot
from qwenctl.fetch.download_url import DownloadUrl, DownloadUrls
from qwenctl.fetch.hub import status_error, untrusted
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.request import RemoteFile
from qwenctl.fetch.retry import EXPIRED, PASSING, PassingError, asked_s, content_range, wait_s
from qwenctl.fetch.sha256 import PrefixHash

RUN_BYTES = 64 * 2**20
"""Asked for in one request: the way there and back costs little then. Each range is noted by itself."""

PROGRESS_BYTES = 2**18
"""So much between two failures counts as progress: the next wait is the first again."""

STRIKES = 3
"""Contradictions of a server (other size, other ETag, refused fresh link) before we stop believing it."""

T = TypeVar("T")

OnBytes = Callable[[int, bool], None]
"""Told how many bytes of the file are there, and whether only the hash is still missing."""


class _RangesIgnored(Exception):  # noqa: N818 - not a failure: the other way of getting the file
    """The server sends the whole file whatever is asked for."""


@dataclass(slots=True)
class _Piece:
    """Ranges side by side that one request asks for. ``index`` is the one ``at`` lies in."""

    index: int
    at: int
    end: int


class Transfer:
    """One attempt to complete one partial file. Its owner holds the file's lock."""

    def __init__(  # noqa: PLR0913 - the parts are made by the caller, who owns them
        self,
        client: aiohttp.ClientSession,
        links: DownloadUrls,
        file: RemoteFile,
        partial: PartialFile,
        journal: RangeJournal,
        connections: int,
        *,
        world: FetchEnvironment,
        on_bytes: OnBytes,
    ) -> None:
        self._client = client
        self._links = links
        self._file = file
        self._partial = partial
        self._journal = journal
        self._connections = connections
        self._world = world
        self._on_bytes = on_bytes
        self._pending: deque[int] = deque()
        self._have: set[int] = set()
        self._finished: list[int] = []
        self._prefix = 0
        self._bytes = 0
        self._etag: str | None = None
        self._etag_helps = True
        self._strikes = 0
        self._changes = 0
        self._committing = asyncio.Lock()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="fetch")
        self._hash = PrefixHash(partial.path, file.bytes)

    async def run(self) -> str:
        """Bring what is missing and return the sha256 of the whole file. Finished ranges outlive any error.

        Raises:
            FetchError: the hub, the storage, the network or the disk failed for good.
        """
        try:
            self._begin()
            try:
                await self._in_ranges()
            except _RangesIgnored:
                await self._as_a_whole()
            self._on_bytes(self._file.bytes, True)
            return await self._in_thread(self._hash.result)
        finally:
            self._hash.close()
            self._threads.shutdown(wait=True)  # a sync still under way must not meet a closed descriptor

    def _begin(self) -> None:
        self._have = set(self._journal.done)
        self._pending = deque(index for index in range(self._journal.count) if index not in self._have)
        self._bytes = self._journal.done_bytes
        self._grow_prefix()
        self._on_bytes(self._bytes, False)

    async def _in_ranges(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._connections, len(self._pending))):
                    group.create_task(self._connection())
        except ExceptionGroup as failed:
            with contextlib.suppress(FetchError):
                await self._commit_finished()
            errors = failed.exceptions
            raise next((error for error in errors if isinstance(error, FetchError)), errors[0]) from failed

    async def _connection(self) -> None:
        while self._pending:
            piece = self._take()
            failures = 0
            while piece.at < piece.end:
                before = piece.at
                try:
                    await self._read_piece(piece)
                except (aiohttp.ClientError, TimeoutError, PassingError) as error:
                    failures = 1 if piece.at - before >= PROGRESS_BYTES else failures + 1
                    await self._pause(failures, error)

    def _take(self) -> _Piece:
        """Take ranges off the list: many for one request at first, single ones when the end is near."""
        first = last = self._pending.popleft()
        most = min(RUN_BYTES // self._journal.range_bytes, len(self._pending) // (2 * self._connections))
        while self._pending and self._pending[0] == last + 1 and last + 1 - first < most:
            last = self._pending.popleft()
        return _Piece(first, self._journal.span(first)[0], self._journal.span(last)[1])

    async def _read_piece(self, piece: _Piece) -> None:
        link = await self._links.get()
        asked = {"range": f"bytes={piece.at}-{piece.end - 1}"}
        if self._etag is not None:
            asked["if-range"] = self._etag
        async with self._client.get(link.url, headers=link.headers | asked) as response:
            end = self._accept_part(response, link, piece)
            async for chunk in response.content.iter_any():
                if piece.at + len(chunk) > end:
                    raise PassingError(f"cannot fetch {self._file.name}: the server sent more than it said")
                rest = memoryview(chunk)
                while rest:
                    room = self._journal.span(piece.index)[1] - piece.at
                    part, rest = rest[:room], rest[room:]
                    self._write(piece.at, part)
                    piece.at += len(part)
                    if len(part) == room:
                        await self._commit(piece.index)
                        piece.index += 1
            if piece.at < end:
                raise PassingError(f"cannot fetch {self._file.name}: the answer ended early")

    def _accept_part(self, response: aiohttp.ClientResponse, link: DownloadUrl, piece: _Piece) -> int:
        """Return where the answer's bytes end, or raise what it means instead.

        In this order: 1. A refusal. 2. Another ETag than before. 3. The whole file: ranges are ignored. 4. A
        part, which must be of the right place and size.
        """
        self._accept_status(response, link)
        etag = response.headers.get("etag")
        if self._etag is not None and etag is not None and etag != self._etag:
            self._note_change(etag, link)
        if response.status == HTTPStatus.OK:
            raise _RangesIgnored
        part = content_range(response.headers.get("content-range"))
        if part is None or part.start != piece.at or part.end > piece.end:
            raise self._strike(
                link, f"it answers with another range: {response.headers.get('content-range')}"
            )
        if part.total not in (None, self._file.bytes):
            raise self._strike(link, f"it has {part.total} bytes, the hub lists {self._file.bytes}")
        if self._etag is None and self._etag_helps and etag is not None and not etag.startswith("W/"):
            self._etag = etag
        return part.end

    def _accept_status(self, response: aiohttp.ClientResponse, link: DownloadUrl) -> None:
        status = response.status
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise self._strike(
                link, f"it has no byte {self._file.bytes - 1}, the hub lists {self._file.bytes} bytes"
            )
        if link.signed and status in EXPIRED:
            raise self._strike(link, f"it answers {status} to a link of the hub")
        asked = asked_s(response.headers.get("retry-after"), response.headers.get("ratelimit"))
        error = status_error(self._file.name, status, asked, response.headers.get("x-error-code", ""))
        if status in PASSING:
            raise PassingError(f"cannot fetch {self._file.name}: the storage answers {status}", asked)
        raise error

    def _strike(self, link: DownloadUrl, cause: str) -> FetchError:
        """Count a contradiction; the next try asks the hub for a fresh link."""
        self._links.expire(link)
        self._strikes += 1
        message = f"cannot fetch {self._file.name} from {link.url.host}: {cause}"
        return FetchError(message) if self._strikes > STRIKES else PassingError(message, 0)

    def _note_change(self, etag: str, link: DownloadUrl) -> None:
        """Take over another ETag: the commit is pinned, the fresh link checked, the hash decides in the end.

        Storages that give each of their machines an ETag of its own are asked without one after a few.
        """
        self._links.expire(link)
        self._changes += 1
        self._etag_helps = self._changes <= STRIKES
        self._etag = etag if self._etag_helps and not etag.startswith("W/") else None
        raise PassingError(f"cannot fetch {self._file.name}: its ETag changed", 0)

    async def _as_a_whole(self) -> None:
        """Read the file from its first byte on, over one connection; what is already there is passed over."""
        self._have = set(self._journal.done)
        self._bytes = self._journal.done_bytes
        failures = 0
        while len(self._have) < self._journal.count:
            before = len(self._have)
            try:
                await self._read_whole()
            except (aiohttp.ClientError, TimeoutError, PassingError) as error:
                self._bytes = self._journal.done_bytes
                failures = 1 if len(self._have) > before else failures + 1
                await self._pause(failures, error)

    async def _read_whole(self) -> None:
        link = await self._links.get()
        async with self._client.get(link.url, headers=link.headers) as response:
            self._accept_status(response, link)
            length = response.headers.get("content-length", str(self._file.bytes))
            if length != str(self._file.bytes) or response.status != HTTPStatus.OK:
                raise self._strike(link, f"it has {length} bytes, the hub lists {self._file.bytes}")
            index = 0
            start, end = self._journal.span(0)
            async for chunk in response.content.iter_any():
                rest = memoryview(chunk)
                while rest:
                    if index >= self._journal.count:
                        raise self._strike(
                            link, f"it has more bytes than the {self._file.bytes} the hub lists"
                        )
                    part, rest = rest[: end - start], rest[end - start :]
                    if index not in self._have:
                        self._write(start, part)
                    start += len(part)
                    if start == end:
                        if index not in self._have:
                            await self._commit(index)
                        index += 1
                        start, end = self._journal.span(index)
            if index < self._journal.count:
                raise PassingError(f"cannot fetch {self._file.name}: the answer ended early")

    def _write(self, offset: int, data: memoryview) -> None:
        """Write here in the loop: a thread for each write took 30 % longer (measured, 2 cores).

        It is the page cache that takes the bytes; it never holds more unsynced ones than a range for each
        connection, so it doesn't make us wait for the disk.
        """
        self._partial.write(offset, data)
        self._bytes += len(data)
        self._on_bytes(self._bytes, False)

    async def _commit(self, index: int) -> None:
        """Sync a finished range, then note it; ranges that finish meanwhile share the next sync."""
        self._have.add(index)
        self._finished.append(index)
        self._grow_prefix()
        async with self._committing:
            if index not in self._journal.done:
                await self._commit_finished()

    async def _commit_finished(self) -> None:
        batch = tuple(self._finished)
        await self._in_thread(self._partial.sync)
        try:
            self._journal.add(batch)
        except OSError as error:
            raise cannot("write", self._journal.path, error) from error
        del self._finished[: len(batch)]

    def _grow_prefix(self) -> None:
        while self._prefix in self._have:
            self._prefix += 1
        self._hash.advance(min(self._prefix * self._journal.range_bytes, self._file.bytes))

    async def _pause(self, failures: int, error: aiohttp.ClientError | TimeoutError | PassingError) -> None:
        """Wait before the next try, or raise what stood in the way of the last one."""
        patience = self._world.patience
        cause = str(error) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in cause:
            raise untrusted("the storage", cause) from error
        if failures >= patience.attempts:
            last = re.sub(r"^cannot fetch [^:]*: ", "", cause)
            raise FetchError(
                f"cannot fetch {self._file.name}: {failures} tries in a row failed, the last one: {last}",
                hint="run it again when the network is back; what has arrived is kept",
            ) from error
        asked = error.asked_s if isinstance(error, PassingError) else None
        self._on_bytes(self._bytes, False)
        await self._world.sleep(wait_s(failures, asked, patience, self._world.spread()))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
