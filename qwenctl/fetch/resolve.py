"""Find out which files at which commit a request means: ask the hub for metadata, patiently."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from qwenctl.errors import FetchError
from qwenctl.fetch.clock import FetchEnvironment
from qwenctl.fetch.hub import Hub, list_files
from qwenctl.fetch.pick import pick
from qwenctl.fetch.request import FetchRequest, ResolvedRequest, is_commit
from qwenctl.fetch.retry import PassingError, wait_s

T = TypeVar("T")

ASK_TIMEOUT_S = 15.0


async def resolve(request: FetchRequest, hub: Hub, world: FetchEnvironment) -> ResolvedRequest:
    """Return the files of a request at the commit its revision stands for.

    Raises:
        FetchError: the hub can't be asked, or has no such files.
    """
    revision = followed(request) if request.update else request.revision
    commit, listing = await ask(lambda: list_files(hub, request.repo, revision, ASK_TIMEOUT_S), world)
    return ResolvedRequest(request.repo, commit, pick(listing, request))


def followed(request: FetchRequest) -> str:
    """Return the branch whose newest commit an update means."""
    return "main" if is_commit(request.revision) else request.revision


async def ask(question: Callable[[], T], world: FetchEnvironment) -> T:
    """Ask in a thread, again while the failure may pass.

    Raises:
        FetchError: it didn't pass.
    """
    for failures in range(1, world.ask_patience.attempts):
        try:
            return await asyncio.to_thread(question)
        except PassingError as error:
            await world.sleep(wait_s(failures, error.asked_s, world.ask_patience, world.spread()))
    try:
        return await asyncio.to_thread(question)
    except PassingError as error:
        raise FetchError(error.message, error.hint) from error
