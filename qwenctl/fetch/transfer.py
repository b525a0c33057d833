"""Move one file's bytes: several ranged connections, resumable, hashed behind the growing prefix.

What is promised: a range is in the journal only when its bytes are synced, so a kill or a cancellation at any
moment costs each connection at most the range it was working on. The caller compares the hash.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import aiohttp

from qwenctl.errors import FetchError
from qwenctl.fetch.answers import PassingError
from qwenctl.fetch.clock import FetchEnvironment, in_thread
from qwenctl.fetch.disk import PartialFile, cannot
from qwenctl.fetch.download_url import DownloadUrls
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.request import RemoteFile
from qwenctl.fetch.retry import retry
from qwenctl.fetch.sha256 import PrefixHash
from qwenctl.fetch.storage import RangesIgnored, Storage

RUN_BYTES = 64 * 2**20
"""Bytes of one request. So many, so that the time for the way there and back costs little."""

OnBytes = Callable[[int, bool], None]
"""Called with how many bytes of the file are there, and whether only the hash is still missing."""


@dataclass(slots=True)
class _Piece:
    """Ranges side by side that one request asks for. ``index`` is the range that ``at`` lies in."""

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
        partial_file: PartialFile,
        journal: RangeJournal,
        connections: int,
        *,
        environment: FetchEnvironment,
        on_bytes: OnBytes,
    ) -> None:
        self._client = client
        self._file = file
        self._partial = partial_file
        self._journal = journal
        self._connections = connections
        self._environment = environment
        self._on_bytes = on_bytes
        self._storage = Storage(links, file)
        self._pending: deque[int] = deque()
        self._written: set[int] = set()  # ranges whose bytes are all written, synced or not
        self._unsynced: list[int] = []
        self._prefix = 0
        self._bytes = 0
        self._committing = asyncio.Lock()
        self._hash = PrefixHash(partial_file.path, file.bytes)

    async def run(self) -> str:
        """Fetch what is missing and return the sha256 of the whole file. Synced ranges outlive any error.

        Raises:
            FetchError: the hub, the storage, the network or the disk failed for good.
        """
        try:
            self._begin()
            try:
                await self._in_ranges()
            except RangesIgnored:
                await self._as_a_whole()
            self._on_bytes(self._file.bytes, True)
            return await in_thread(lambda _background: self._hash.result())
        finally:
            self._hash.close()

    def _begin(self) -> None:
        self._written = set(self._journal.done)
        self._pending = deque(index for index in range(self._journal.count) if index not in self._written)
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
                await self._sync()
            errors = failed.exceptions
            raise next((error for error in errors if isinstance(error, FetchError)), errors[0]) from failed

    async def _connection(self) -> None:
        while self._pending:
            piece = self._take()
            while piece.at < piece.end:
                await self._retry(partial(self._read_piece, piece), lambda: piece.at)  # noqa: B023 - awaited here

    def _take(self) -> _Piece:
        """Take ranges off the list: many for one request at first, single ones when the end is near."""
        first = last = self._pending.popleft()
        most = min(RUN_BYTES // self._journal.range_bytes, len(self._pending) // (2 * self._connections))
        while self._pending and self._pending[0] == last + 1 and last + 1 - first < most:
            last = self._pending.popleft()
        return _Piece(first, self._journal.span(first)[0], self._journal.span(last)[1])

    async def _read_piece(self, piece: _Piece) -> None:
        link = await self._storage.link()
        headers = self._storage.range_headers(link, piece.at, piece.end)
        async with self._client.get(link.url, headers=headers) as response:
            end = self._storage.accept_part(response, link, piece.at, piece.end)
            async for chunk in response.content.iter_any():
                if piece.at + len(chunk) > end:
                    raise PassingError(
                        f"cannot fetch {self._file.name}: the server sent more bytes than it announced"
                    )
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

    async def _as_a_whole(self) -> None:
        """Read the file from its first byte on, over one connection; skip bytes that are already here."""
        self._written = set(self._journal.done)
        self._forget_unsynced()
        while len(self._written) < self._journal.count:
            await self._retry(self._read_whole, lambda: self._journal.done_bytes, self._forget_unsynced)

    async def _read_whole(self) -> None:
        link = await self._storage.link()
        async with self._client.get(link.url, headers=link.headers) as response:
            self._storage.accept_whole(response, link)
            index = 0
            start, end = self._journal.span(0)
            async for chunk in response.content.iter_any():
                rest = memoryview(chunk)
                while rest:
                    if index >= self._journal.count:
                        raise self._storage.strike(
                            link, f"it has more bytes than the {self._file.bytes} that are listed"
                        )
                    part, rest = rest[: end - start], rest[end - start :]
                    if index not in self._written:
                        self._write(start, part)
                    start += len(part)
                    if start == end:
                        if index not in self._written:
                            await self._commit(index)
                        index += 1
                        start, end = self._journal.span(index)
            if index < self._journal.count:
                raise PassingError(f"cannot fetch {self._file.name}: the answer ended early")

    async def _retry(
        self,
        read: Callable[[], Awaitable[None]],
        done_bytes: Callable[[], int],
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        def failed() -> None:
            on_failure()
            self._on_bytes(self._bytes, False)  # so that the speed falls while nothing comes

        await retry(
            read,
            self._environment.transfer_policy,
            self._environment,
            give_up=self._give_up,
            done_bytes=done_bytes,
            on_failure=failed,
        )

    def _give_up(self, error: Exception, failures: int) -> FetchError:
        cause = re.sub(r"^cannot fetch [^:]*: ", "", str(error) or type(error).__name__)
        return FetchError(
            f"cannot fetch {self._file.name}: {failures} tries in a row failed, the last one: {cause}",
            hint="run it again when the network is back; the bytes that have arrived are kept",
        )

    def _forget_unsynced(self) -> None:
        self._bytes = self._journal.done_bytes

    def _write(self, offset: int, data: memoryview) -> None:
        """Write on the event loop's thread: a thread for each write took 30 % longer (measured, 2 cores).

        The bytes go to the page cache, which never holds more unsynced ones than a range for each
        connection, so a write doesn't wait for the disk.
        """
        self._partial.write(offset, data)
        self._bytes += len(data)
        self._on_bytes(self._bytes, False)

    async def _commit(self, index: int) -> None:
        """Sync a finished range, then note it; ranges that finish meanwhile share the next sync."""
        self._written.add(index)
        self._unsynced.append(index)
        self._grow_prefix()
        async with self._committing:
            if index not in self._journal.done:
                await self._sync()

    async def _sync(self) -> None:
        batch = tuple(self._unsynced)
        await in_thread(lambda _background: self._partial.sync())
        try:
            self._journal.add(batch)
        except OSError as error:
            raise cannot("write", self._journal.path, error, self._partial.setting) from error
        del self._unsynced[: len(batch)]

    def _grow_prefix(self) -> None:
        while self._prefix in self._written:
            self._prefix += 1
        self._hash.advance(min(self._prefix * self._journal.range_bytes, self._file.bytes))
