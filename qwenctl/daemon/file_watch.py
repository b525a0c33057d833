"""Notice that something changed on the disk: the config folder, or the files of a parked server."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from qwenctl import paths

log = logging.getLogger(__name__)

STEP_MS, DEBOUNCE_MS = 400, 5000
"""Changes are one as long as the next comes within a step; but a storm of them is told after a while."""
LOOK_AGAIN_MS = 30_000
POLL_S = 5.0


WatchFolders = Callable[[list[Path]], AsyncIterator[object]]


def watched(folders: list[Path]) -> AsyncIterator[object]:
    """Yield when something in the folders changes, and now and then without."""
    return awatch(
        *folders,
        recursive=False,
        step=STEP_MS,
        debounce=DEBOUNCE_MS,
        rust_timeout=LOOK_AGAIN_MS,
        yield_on_timeout=True,
    )


async def config_changes(
    file: Path, profiles: Path, watch: WatchFolders = watched, poll_s: float = POLL_S
) -> AsyncGenerator[None, None]:
    """Yield when ``file`` or a profile may have changed. The folders are watched: editors replace files.

    A folder that vanishes is looked for until it is back. Where the system watches nothing more for us
    (its limits are shared with other programs), the files are looked at every few seconds.
    """
    known = _state(file, profiles)
    while True:
        folders = [folder for folder in (file.parent, profiles) if folder.is_dir()]
        inodes = _inodes(file, profiles)
        try:
            async for _ in watch(folders) if folders else _nothing():
                if (now := _state(file, profiles)) != known:
                    known = now
                    yield
                if _inodes(file, profiles) != inodes:
                    break
            else:
                await asyncio.sleep(poll_s)
        except (OSError, WatchfilesRustInternalError) as error:
            log.info("cannot watch %s: %s; looking at it every %g s", file.parent, error, poll_s)
            await asyncio.sleep(poll_s)
        if (now := _state(file, profiles)) != known:
            known = now
            yield


def settings_mark(file: Path) -> str:
    """Return a text that is another one once the config file was saved again, or a profile beside it."""
    return repr(_state(file, paths.config_dir() / "profiles"))


async def _nothing() -> AsyncIterator[object]:
    nothing: tuple[object, ...] = ()
    for one in nothing:
        yield one


async def changed(files: tuple[Path, ...], poll_s: float) -> None:
    """Return when one of these was replaced, brought or altered."""
    before = [_mark(file) for file in files]
    while [_mark(file) for file in files] == before:  # noqa: ASYNC110 - a disk sends no events
        await asyncio.sleep(poll_s)


def _state(file: Path, profiles: Path) -> tuple[object, ...]:
    listed = sorted(profiles.glob("*.toml")) if profiles.is_dir() else []
    return tuple((path, _mark(path)) for path in (file, *listed))


def _inodes(file: Path, profiles: Path) -> list[int | None]:
    return [folder.stat().st_ino if folder.is_dir() else None for folder in (file.parent, profiles)]


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
