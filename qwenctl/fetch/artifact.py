"""Get an artifact: from the record, from the cache, or from the hub. What the daemon and the commands call.

The order, cheapest first: 1. a recorded artifact whose files are as they were verified; 2. files another
program left in the cache under the wanted commit, hashed once; 3. files with the hash that the profile pins,
wherever they are on this disk and whatever they are called, hashed once; 4. the hub. Only 4 sends requests.

A fetch can be cancelled at any moment and is over at once: work that blocks runs in threads nobody has to
wait for. Progress is reported on the event loop's thread only.
"""

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.fetch import cache
from qwenctl.fetch.artifact_record import Records, read_records, record
from qwenctl.fetch.clock import Background, FetchEnvironment, in_thread
from qwenctl.fetch.disk import PartialFile, allocated_bytes, cannot, check_space
from qwenctl.fetch.download_url import DownloadUrls, connect, hub_source
from qwenctl.fetch.gguf_check import check_gguf, check_part
from qwenctl.fetch.hub import Hub, check_repo, default_hub
from qwenctl.fetch.local_copies import copies
from qwenctl.fetch.progress import TransferMeter
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.request import (
    Artifact,
    ArtifactFile,
    FetchRequest,
    Progress,
    RemoteFile,
    ResolvedRequest,
    hash_of,
    is_commit,
    pinned_files,
)
from qwenctl.fetch.resolve import resolve
from qwenctl.fetch.sha256 import hash_file
from qwenctl.fetch.transfer import Transfer


async def fetch(
    request: FetchRequest,
    on_progress: Callable[[Progress], None],
    *,
    state_dir: Path,
    hub: Hub | None = None,
    environment: FetchEnvironment | None = None,
    elsewhere: Callable[[RemoteFile], Iterable[Path]] = copies,
) -> Artifact:
    """Return the verified artifact of a request; download what is missing.

    ``elsewhere`` finds files outside the cache that may be the one that is wanted.

    Raises:
        FetchError: it can't be had; the bytes that have arrived are kept for the next time.
    """
    check_repo(request.repo)
    if hub is None:
        hub = await in_thread(lambda _background: default_hub(request.cache_dir, offline=request.offline))
    work = _Fetch(request, hub, environment or FetchEnvironment(), state_dir, on_progress)
    if not request.update:
        artifact = work.recorded() or await work.cached() or await work.pinned(elsewhere)
        if artifact is not None:
            return artifact
    return await work.from_hub()


class _Fetch:
    """One call of ``fetch``: its arguments, kept together."""

    def __init__(
        self,
        request: FetchRequest,
        hub: Hub,
        environment: FetchEnvironment,
        state_dir: Path,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._request = request
        self._hub = hub
        self._environment = environment
        self._state_dir = state_dir
        self._on_progress = on_progress
        self._folder = hub.folder(request.repo)
        self._records: Records = read_records(state_dir)

    def recorded(self) -> Artifact | None:
        recorded = self._records.find(self._request)
        if recorded is None or not recorded.is_usable():
            return None
        with contextlib.suppress(FetchError):  # a cache that can only be read still serves
            self._keep_from_pruning(recorded.commit)
        return self._done(recorded.artifact())

    async def cached(self) -> Artifact | None:
        """Return what another program left here under the wanted commit, once its hash is known to be right.

        A branch is looked up in the cache only without a network: it may stand for another commit by now.
        """
        request = self._request
        if not (request.offline or self._hub.offline or is_commit(request.revision)):
            return None
        commit = cache.read_ref(self._folder, request.revision)
        resolved = cache.look_up(self._folder, request, commit) if commit else None
        if resolved is None:
            return None
        meter = self._meter(resolved)
        for before, file in resolved.with_bytes_before():
            meter.start(file.name, before)
            if not await self._is_right(file, meter):
                return None
        return await self._publish(resolved, fetched=False)

    async def pinned(self, elsewhere: Callable[[RemoteFile], Iterable[Path]]) -> Artifact | None:
        """Return files with the pinned hashes: blobs of any commit or repository, or a file elsewhere."""
        request, files = self._request, pinned_files(self._request)
        commit = cache.read_ref(self._folder, request.revision)
        if not files or commit is None:
            return None
        resolved = ResolvedRequest(request.repo, commit, files)
        meter = self._meter(resolved)
        for before, file in resolved.with_bytes_before():
            meter.start(file.name, before)
            cache.adopt_blob(self._hub.cache_dir, self._folder, file)
            if not await self._is_right(file, meter):
                return await self._from_elsewhere(resolved, elsewhere) if len(files) == 1 else None
        return await self._publish(resolved, fetched=False)

    async def _from_elsewhere(
        self, resolved: ResolvedRequest, elsewhere: Callable[[RemoteFile], Iterable[Path]]
    ) -> Artifact | None:
        """Return the file of another program, used where it is: it stays that program's."""
        (file,), request = resolved.files, self._request
        meter = self._meter(resolved)
        meter.start(file.name, 0)
        for path in await in_thread(lambda _background: tuple(elsewhere(file))):
            if await self._has_hash(path, file, meter):
                break
        else:
            return None
        found = ArtifactFile(file.name, path, file.bytes, file.sha256)
        artifact = Artifact((found,), resolved.repo, request.revision, resolved.commit, request.quant)
        await in_thread(lambda _background: self._check(artifact))
        record(self._state_dir, request, artifact, fetched=False)
        return self._done(artifact)

    async def from_hub(self) -> Artifact:
        request = self._request
        if request.offline or self._hub.offline:
            raise FetchError(
                f"cannot fetch {request.quant or request.names[0]} of {request.repo}: it is not in"
                f" {self._hub.cache_dir} and qwenctl is offline",
                hint="run qwenctl fetch once with a network, or set [model] path",
            )
        resolved = await resolve(request, self._hub, self._environment)
        meter = self._meter(resolved)
        fetched = False
        missing = []
        for before, file in resolved.with_bytes_before():
            meter.start(file.name, before)
            if not await self._is_right(file, meter):
                missing.append((before, file))
        check_space(
            self._folder,
            sum(self._missing_bytes(file) for _, file in missing),
            self._environment.margin_bytes,
        )
        for before, file in missing:
            meter.start(file.name, before)
            fetched |= await self._download(resolved, file, meter)
        return await self._publish(resolved, fetched=fetched)

    async def _download(self, resolved: ResolvedRequest, file: RemoteFile, meter: TransferMeter) -> bool:
        """Download one file under its lock; return False if another process did so meanwhile."""
        sha256 = hash_of(file)
        cache.make_folders(self._folder)
        lock = cache.Lock(self._hub.lock_path(resolved.repo, sha256))
        waited = False
        while not lock.take():
            waited = True
            meter.report("waiting", allocated_bytes(cache.partial_path(self._folder, sha256)))
            await self._environment.sleep(self._environment.waiting_s)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(lock.release)
            if waited and await self._is_right(file, meter):
                return False
            await self._transfer(resolved, file, meter)
            path = cache.partial_path(self._folder, sha256)
            await in_thread(lambda _background: check_part(path, self._request.architecture, file.name))
            cleanup.pop_all()  # the thread below releases the lock, even if we are cancelled meanwhile
            await in_thread(lambda _background: self._settle(sha256, lock))
        return True

    def _settle(self, sha256: str, lock: cache.Lock) -> None:
        try:
            cache.settle(self._folder, sha256)
        finally:
            lock.release()

    async def _transfer(self, resolved: ResolvedRequest, file: RemoteFile, meter: TransferMeter) -> None:
        """Complete the partial file, and remove it if it isn't what the hub lists."""
        sha256 = hash_of(file)
        path = cache.partial_path(self._folder, sha256)
        journal_path, range_bytes = cache.journal_path(self._folder, sha256), self._request.range_mib * 2**20
        journal = RangeJournal(journal_path, file, range_bytes)
        if path.exists():
            journal.read()
        check_space(self._folder, self._missing_bytes(file), self._environment.margin_bytes)
        partial = PartialFile(path, file.bytes)
        try:
            try:
                journal.open()
            except OSError as error:
                raise cannot("write", journal.path, error) from error
            async with connect(self._environment.transfer_policy, self._request.connections) as client:
                source = hub_source(self._hub, resolved.repo, resolved.commit, file)
                links = DownloadUrls(client, source, file)
                digest = await Transfer(
                    client,
                    links,
                    file,
                    partial,
                    journal,
                    self._request.connections,
                    environment=self._environment,
                    on_bytes=lambda done, hashing: meter.report(
                        "verifying" if hashing else "downloading", done
                    ),
                ).run()
        finally:
            journal.close()
            partial.close()
        if digest != sha256:
            cache.discard_partial(self._folder, sha256)
            raise FetchError(
                f"cannot verify {file.name}: its sha256 is {digest}, the hub lists {sha256}",
                hint="the wrong bytes are removed; run it again, through another network if need be",
            )

    async def _is_right(self, file: RemoteFile, meter: TransferMeter) -> bool:
        """Whether the blob is there with the right bytes."""
        return await self._has_hash(cache.blob_path(self._folder, hash_of(file)), file, meter)

    async def _has_hash(self, path: Path, file: RemoteFile, meter: TransferMeter) -> bool:
        """Whether a file has the right bytes. Hashed once; later its size and time are enough."""
        try:
            if path.stat().st_size != file.bytes:
                return False
        except OSError:
            return False
        if self._records.verified(path, hash_of(file)):
            return True

        def hash_blob(background: Background) -> str:
            verifying = partial(background.report, partial(meter.report, "verifying"))
            return hash_file(path, verifying, background.stop.is_set)

        return await in_thread(hash_blob) == file.sha256

    async def _publish(self, resolved: ResolvedRequest, *, fetched: bool) -> Artifact:
        """Link the verified blobs where programs look for them, check them as a whole, note them."""
        request = self._request
        files = tuple(
            ArtifactFile(
                file.name,
                cache.publish(self._folder, resolved.commit, file.name, hash_of(file)),
                file.bytes,
                file.sha256,
            )
            for file in resolved.files
        )
        artifact = Artifact(files, resolved.repo, request.revision, resolved.commit, request.quant)
        await in_thread(lambda _background: self._check(artifact))
        if not request.update and not request.offline and not self._hub.offline:
            cache.write_ref(self._folder, request.revision, resolved.commit)
        self._keep_from_pruning(resolved.commit)
        earlier = self._records.find(request)
        fetched = fetched or (earlier is not None and earlier.fetched and earlier.commit == resolved.commit)
        record(self._state_dir, request, artifact, fetched=fetched)
        return self._done(artifact)

    def _check(self, artifact: Artifact) -> None:
        check_gguf(artifact.path, self._request.architecture)

    def _keep_from_pruning(self, commit: str) -> None:
        if is_commit(commit) and (self._folder / "snapshots" / commit).is_dir():
            cache.write_own_ref(self._folder, commit)

    def _done(self, artifact: Artifact) -> Artifact:
        total = sum(file.bytes for file in artifact.files)
        self._on_progress(Progress(artifact.path.name, total, total, 0.0, "done"))
        return artifact

    def _missing_bytes(self, file: RemoteFile) -> int:
        return max(0, file.bytes - allocated_bytes(cache.partial_path(self._folder, hash_of(file))))

    def _meter(self, resolved: ResolvedRequest) -> TransferMeter:
        return TransferMeter(self._environment.clock, self._on_progress, resolved.bytes)
