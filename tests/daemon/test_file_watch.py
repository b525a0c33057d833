"""A change on the disk is noticed, whatever the system allows us to watch."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qwenctl.daemon.file_watch import changed, config_changes


async def refused(folders: list[Path]) -> AsyncIterator[object]:
    if folders:
        raise OSError(24, "inotify instances ran out", str(folders[0]))
    yield None


@pytest.mark.parametrize("kind", ["watched", "polled"])
def test_a_replaced_file_is_noticed(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "config.toml"

    async def go() -> None:
        polled = config_changes(file, tmp_path / "profiles", refused, poll_s=0.01)
        changes = polled if kind == "polled" else config_changes(file, tmp_path / "profiles")
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        (tmp_path / "part").write_text("a")
        (tmp_path / "part").replace(file)
        await asyncio.wait_for(waiting, timeout=20)
        await changes.aclose()

    asyncio.run(go())


def test_a_folder_that_comes_back_is_watched_again(tmp_path: Path) -> None:
    file = tmp_path / "gone" / "config.toml"

    async def go() -> None:
        changes = config_changes(file, tmp_path / "profiles", poll_s=0.01)
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        file.parent.mkdir()
        file.write_text("a")
        await asyncio.wait_for(waiting, timeout=20)
        await changes.aclose()

    asyncio.run(go())


def test_a_changed_file_of_a_parked_server_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "llama-server"

    async def go() -> None:
        waiting = asyncio.ensure_future(changed((file,), poll_s=0.01))
        await asyncio.sleep(0)
        file.write_text("x")
        await asyncio.wait_for(waiting, timeout=20)

    asyncio.run(go())
