"""Find out which files at which commit a request means: ask the hub for metadata, patiently."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from qwenctl.errors import FetchError
from qwenctl.fetch.hub import Hub, list_files
from qwenctl.fetch.pick import pick
from qwenctl.fetch.request import FetchRequest, Resolved, is_commit
from qwenctl.fetch.retry import PassingError, wait_s
from qwenctl.fetch.world import World

T = TypeVar("T")

ASK_TIMEOUT_S = 15.0


async def resolve(request: FetchRequest, hub: Hub, world: World) -> Resolved:
    """Return the files of a request at the commit its revision stands for.

    Raises:
        FetchError: the hub can't be asked, or has no such files.
    """
    revision = followed(request) if request.update else request.revision
    commit, listing = await ask(lambda: list_files(hub, request.repo, revision, ASK_TIMEOUT_S), world)
    return Resolved(request.repo, commit, pick(listing, request))


def followed(request: FetchRequest) -> str:
    """Return the branch whose newest commit an update means."""
    return "main" if is_commit(request.revision) else request.revision


async def ask(question: Callable[[], T], world: World) -> T:
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
