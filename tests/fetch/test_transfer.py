"""A transfer on a disk that syncs slowly."""

import asyncio
import threading
from pathlib import Path

import pytest

from qwenctl.errors import FetchError
from qwenctl.fetch.disk import PartialFile
from qwenctl.fetch.download_url import DownloadUrls, connect, hub_source
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.request import RemoteFile
from qwenctl.fetch.transfer import Transfer
from tests.fakes.fetcher import Fetcher
from tests.fakes.hub import COMMIT, REPO, Fault

MIB = 2**20


class SlowDisk(PartialFile):
    """Its first sync lasts until a second one begins."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path, size)
        self.first = threading.Event()
        self.second = threading.Event()

    def sync(self) -> None:
        if not self.first.is_set():
            self.first.set()
            self.second.wait(3)
        else:
            self.second.set()
        super().sync()


def test_a_range_that_was_being_synced_when_another_connection_failed_is_kept(
    fetcher: Fetcher, model: bytes, tmp_path: Path
) -> None:
    disk = SlowDisk(tmp_path / "partial", len(model))

    refused = Fault(status=418, after=disk.first)
    fetcher.fake.faults = lambda call: refused if call.kind == "bytes" and call.number == 1 else None
    file = RemoteFile("m.gguf", len(model), fetcher.fake.sha256("m.gguf"))
    journal = RangeJournal(tmp_path / "journal", file, MIB)
    journal.open()

    async def move() -> None:
        environment = fetcher.environment()
        async with connect(environment.transfer_policy, 2) as client:
            links = DownloadUrls(client, hub_source(fetcher.hub(), REPO, COMMIT, file), file)
            await Transfer(
                client,
                links,
                file,
                disk,
                journal,
                2,
                environment=environment,
                on_bytes=lambda _done, _hashing: None,
            ).run()

    with pytest.raises(FetchError, match="418"):
        asyncio.run(move())
    journal.close()
    disk.close()
    assert len(journal.done) == 1  # whichever was call for first
