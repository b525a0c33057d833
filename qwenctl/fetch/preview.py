"""Say what a fetch would do, and whether the hub has a newer commit. Downloads nothing, writes nothing."""

from dataclasses import dataclass
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.fetch import cache
from qwenctl.fetch.artifact_record import read_records
from qwenctl.fetch.clock import FetchEnvironment
from qwenctl.fetch.disk import free_bytes
from qwenctl.fetch.hub import Hub, check_repo, default_hub, latest_commit
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.request import FetchRequest, RemoteFile, ResolvedRequest, is_commit, pinned_files
from qwenctl.fetch.resolve import METADATA_TIMEOUT_S, ask_hub, followed_revision, resolve


@dataclass(frozen=True, slots=True)
class PreviewFile:
    """A file, where it will be, and how many of its bytes are there."""

    name: str
    path: Path
    bytes: int
    have_bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a fetch would do. ``newer_commit`` is None if there is none, or if the hub can't be asked."""

    repo: str
    revision: str
    commit: str
    files: tuple[PreviewFile, ...]
    target: Path
    needed_bytes: int
    free_bytes: int
    newer_commit: str | None


async def dry_run(
    request: FetchRequest,
    *,
    state_dir: Path,
    hub: Hub | None = None,
    environment: FetchEnvironment | None = None,
) -> Preview:
    """Return what ``fetch`` would do with the same request.

    Raises:
        FetchError: it would fail before its first byte.
    """
    check_repo(request.repo)
    environment = environment or FetchEnvironment()
    hub = hub or default_hub(request.cache_dir, offline=request.offline)
    folder = hub.folder(request.repo)
    offline = request.offline or hub.offline
    resolved = None if request.update else _without_the_hub(request, folder, state_dir, offline=offline)
    if resolved is None and offline:
        raise FetchError(f"cannot look at {request.repo}: it is not in the cache and qwenctl is offline")
    resolved = resolved or await resolve(request, hub, environment)
    files = tuple(_preview(folder, resolved.commit, file) for file in resolved.files)
    try:
        newer = (
            None
            if offline
            else await newer_commit(request, resolved.commit, hub=hub, environment=environment)
        )
    except FetchError:
        newer = None
    return Preview(
        repo=request.repo,
        revision=request.revision,
        commit=resolved.commit,
        files=files,
        target=folder,
        needed_bytes=sum(file.bytes - file.have_bytes for file in files),
        free_bytes=free_bytes(folder),
        newer_commit=newer,
    )


async def newer_commit(
    request: FetchRequest, used: str, *, hub: Hub | None = None, environment: FetchEnvironment | None = None
) -> str | None:
    """Return the commit ``fetch --update`` would move to, None if ``used`` is it. One request.

    Raises:
        FetchError: the hub can't be asked.
    """
    hub = hub or default_hub(request.cache_dir, offline=request.offline)
    if request.offline or hub.offline:
        return None
    revision = followed_revision(request)
    latest = await ask_hub(
        lambda: latest_commit(hub, request.repo, revision, METADATA_TIMEOUT_S),
        environment or FetchEnvironment(),
    )
    return latest if latest != used else None


def _without_the_hub(
    request: FetchRequest, folder: Path, state_dir: Path, *, offline: bool
) -> ResolvedRequest | None:
    """Return the files that ``fetch`` would use without asking the hub."""
    recorded = read_records(state_dir).find(request)
    if recorded is not None and recorded.is_usable():
        files = tuple(RemoteFile(file.name, file.bytes, file.sha256) for file in recorded.files)
        return ResolvedRequest(request.repo, recorded.commit, files)
    commit = cache.read_ref(folder, request.revision)
    pinned = pinned_files(request)
    if commit and pinned and all(_has_blob(folder, file) for file in pinned):
        return ResolvedRequest(request.repo, commit, pinned)
    if not offline and not is_commit(request.revision):
        return None
    return cache.look_up(folder, request, commit) if commit else None


def _has_blob(folder: Path, file: RemoteFile) -> bool:
    blob = cache.blob_path(folder, file.sha256 or "")
    return blob.is_file() and blob.stat().st_size == file.bytes


def _preview(folder: Path, commit: str, file: RemoteFile) -> PreviewFile:
    path = cache.snapshot_path(folder, commit, file.name)
    have = 0
    if file.sha256 is not None:
        if _has_blob(folder, file):
            have = file.bytes
        elif cache.partial_path(folder, file.sha256).is_file():
            journal = RangeJournal(cache.journal_path(folder, file.sha256), file, range_bytes=2**23)
            journal.read()
            have = journal.done_bytes
    return PreviewFile(file.name, path, file.bytes, have, file.sha256)
