"""Find out which files at which commit a request means. Asks the hub for metadata; moves no model."""

from collections.abc import Callable
from typing import TypeVar

from qwenctl.errors import FetchError
from qwenctl.fetch.clock import FetchEnvironment, in_thread
from qwenctl.fetch.hub import Hub, NoSuchRevisionError, list_files
from qwenctl.fetch.pick import pick
from qwenctl.fetch.request import FetchRequest, ResolvedRequest, is_commit, pinned_files
from qwenctl.fetch.retry import retry

T = TypeVar("T")

METADATA_TIMEOUT_S = 15.0


async def resolve(request: FetchRequest, hub: Hub, environment: FetchEnvironment) -> ResolvedRequest:
    """Return the files of a request at the commit its revision stands for.

    A pinned commit that is gone from the hub (its history was rewritten) is no loss where ``main`` still has
    files of the pinned hashes.

    Raises:
        FetchError: the hub can't be asked, or has no such files.
    """
    revision = followed_revision(request) if request.update else request.revision
    try:
        commit, listing = await ask_hub(
            lambda: list_files(hub, request.repo, revision, METADATA_TIMEOUT_S), environment
        )
    except NoSuchRevisionError:
        found = await _by_hash(request, hub, environment) if is_commit(revision) else None
        if found is None:
            raise
        return found
    return ResolvedRequest(request.repo, commit, pick(listing, request))


async def _by_hash(request: FetchRequest, hub: Hub, environment: FetchEnvironment) -> ResolvedRequest | None:
    """Return the pinned files as ``main`` has them, under whatever names; None unless it has all."""
    commit, listing = await ask_hub(
        lambda: list_files(hub, request.repo, "main", METADATA_TIMEOUT_S), environment
    )
    by_hash = {file.sha256: file for file in listing if file.sha256 is not None}
    files = tuple(by_hash[pin.sha256] for pin in pinned_files(request) if pin.sha256 in by_hash)
    return ResolvedRequest(request.repo, commit, files) if len(files) == len(request.files) > 0 else None


def followed_revision(request: FetchRequest) -> str:
    """Return the branch whose newest commit an update means."""
    return "main" if is_commit(request.revision) else request.revision


async def ask_hub(question: Callable[[], T], environment: FetchEnvironment) -> T:
    """Ask the hub in a thread, and again while the failure may pass by itself.

    Raises:
        FetchError: it did not pass.
    """
    return await retry(
        lambda: in_thread(lambda _background: question()),
        environment.metadata_policy,
        environment,
        give_up=lambda error, _failures: FetchError(str(error), getattr(error, "hint", None)),
    )
