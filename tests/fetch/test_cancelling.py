"""A cancelled fetch is over within a second, whatever it was doing, and leaves no thread to wait for."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.errors import FetchError
from qwenctl.fetch import cache
from qwenctl.fetch.artifact import _Fetch, fetch
from qwenctl.fetch.clock import Background, FetchEnvironment, in_thread
from qwenctl.fetch.disk import PartialFile
from qwenctl.fetch.download_url import AddressInfo, Resolver
from qwenctl.fetch.preview import newer_commit
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.remote_header import fetch_header
from qwenctl.fetch.request import Artifact, FetchRequest, Progress, RemoteFile
from qwenctl.fetch.sha256 import BLOCK_BYTES, PrefixHash
from tests.fakes.fetcher import REQUEST, Fetcher
from tests.fakes.hub import COMMIT, REPO, Fault

MIB = 2**20
HUGE = 16 * 2**30
SHA256 = "5ed60d0af4650a854b1755bd392f9aef4872643dc25a254bc68043fa638392a0"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the hub and the threads have no event to wait for
            await asyncio.sleep(0.001)


def cancel(
    work: Coroutine[None, None, object], *, once: Callable[[], bool], and_its_threads: bool = False
) -> None:
    """Run ``work`` until ``once`` is true, cancel it, and demand that it is over without delay."""
    before = workers()

    async def run() -> None:
        task = asyncio.create_task(work)
        await until(lambda: once() or task.done())
        assert not task.done(), task.exception()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=1)
        assert done
        assert task.cancelled()
        if and_its_threads:
            await until(lambda: workers() <= before)
        async with asyncio.timeout(1):  # what asyncio.run does at its end, without a limit
            await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(run())


def fetching(
    fetcher: Fetcher,
    request: FetchRequest = REQUEST,
    *,
    offline: bool = False,
    environment: FetchEnvironment | None = None,
) -> Coroutine[None, None, Artifact]:
    return fetch(
        request,
        fetcher.progress.append,
        state_dir=fetcher.state,
        hub=fetcher.hub(offline=offline),
        environment=environment or fetcher.environment(),
    )


def has_phase(fetcher: Fetcher, phase: str) -> Callable[[], bool]:
    return lambda: phase in {progress.phase for progress in fetcher.progress}


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name in ("fetch", "sha256")}


def a_new_worker() -> Callable[[], bool]:
    before = workers()
    return lambda: bool(workers() - before)


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(trickle=True)])
def test_while_the_hub_lists_its_files(fetcher: Fetcher, fault: Fault) -> None:
    fetcher.fake.faults = lambda call: fault if call.kind == "info" else None
    cancel(fetching(fetcher), once=lambda: fetcher.fake.count("info") == 1)
    cancel(
        newer_commit(REQUEST, COMMIT, hub=fetcher.hub(), environment=fetcher.environment()),
        once=lambda: fetcher.fake.count("info") == 2,
    )


def test_while_the_hub_looks_for_the_link(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: Fault(hang=True) if call.kind == "resolve" else None
    cancel(fetching(fetcher), once=lambda: fetcher.fake.count("resolve") == 1)
    fetcher.fake.faults = lambda _call: None
    fetcher.check(fetcher.fetch())


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(hang_after=300_000), Fault(trickle=True)])
def test_while_four_connections_get_nothing_and_their_ranges_are_not_sent_again(
    fetcher: Fetcher, model: bytes, fault: Fault
) -> None:
    fetcher.fake.faults = lambda call: fault if call.kind == "bytes" and call.number >= 2 else None
    cancel(fetching(fetcher), once=lambda: fetcher.downloads() == 6)
    fetcher.fake.faults = lambda _call: None
    sent = fetcher.fake.bytes_sent
    fetcher.check(fetcher.fetch())
    assert fetcher.fake.bytes_sent - sent == len(model) - 2 * MIB


def test_while_it_waits_to_ask_a_busy_storage_again(fetcher: Fetcher) -> None:
    busy = Fault(status=429, headers={"Retry-After": "500"})
    fetcher.fake.faults = lambda call: busy if call.kind == "bytes" else None
    cancel(
        fetching(fetcher, environment=FetchEnvironment(margin_bytes=0)),
        once=lambda: fetcher.downloads() == 4,
    )


def test_while_a_header_is_read(fetcher: Fetcher, tmp_path: Path) -> None:
    fetcher.fake.faults = lambda call: Fault(trickle=True) if call.kind == "bytes" else None
    cancel(
        fetch_header(REQUEST, tmp_path / "headers", hub=fetcher.hub(), environment=fetcher.environment()),
        once=lambda: fetcher.downloads() == 1,
    )


def test_while_another_process_has_the_lock(fetcher: Fetcher) -> None:
    lock = cache.Lock(fetcher.hub().lock_path(REPO, fetcher.fake.sha256("m.gguf")))
    assert lock.take()
    environment = FetchEnvironment(margin_bytes=0, waiting_s=3600)
    cancel(fetching(fetcher, environment=environment), once=has_phase(fetcher, "waiting"))
    lock.release()
    fetcher.check(fetcher.fetch())


def cached(fetcher: Fetcher, make: Callable[[Path], None]) -> Path:
    """Put a file into the cache as another program would have left it there."""
    folder = fetcher.hub().folder(REPO)
    blob = cache.blob_path(folder, SHA256)
    blob.parent.mkdir(parents=True)
    make(blob)
    return cache.publish(folder, COMMIT, "m.gguf", SHA256)


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, HUGE)


def test_while_a_file_of_another_program_is_hashed(fetcher: Fetcher) -> None:
    cached(fetcher, sparse)
    pinned = replace(REQUEST, revision=COMMIT)
    cancel(fetching(fetcher, pinned), once=has_phase(fetcher, "verifying"), and_its_threads=True)


def test_while_the_end_of_a_download_is_hashed(fetcher: Fetcher, tmp_path: Path) -> None:
    sparse(tmp_path / "m.gguf")
    fetcher.fake.files = {"m.gguf": tmp_path / "m.gguf"}
    fetcher.fake._hashes["m.gguf"] = SHA256
    folder = fetcher.hub().folder(REPO)
    cache.make_folders(folder)
    partial = cache.partial_path(folder, SHA256)
    sparse(partial)
    journal = RangeJournal(cache.journal_path(folder, SHA256), RemoteFile("m.gguf", HUGE, SHA256), 2**30)
    journal.open()
    journal.add(tuple(range(16)))
    journal.close()
    fetcher.margin_bytes = -(10**12)
    cancel(fetching(fetcher), once=has_phase(fetcher, "verifying"), and_its_threads=True)
    assert fetcher.downloads() == 0
    assert partial.exists()


def let_go(fifo: Path) -> None:
    """End the thread that waits for the other end of the FIFO, as soon as it does."""

    def opened() -> bool:
        try:
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads it yet
            return False
        return True

    asyncio.run(until(opened))


def test_while_a_disk_does_not_answer_the_hashing_thread(fetcher: Fetcher) -> None:
    fifo = cached(fetcher, os.mkfifo)  # opening it blocks, as a network disk that is gone does
    cancel(fetching(fetcher, replace(REQUEST, revision=COMMIT)), once=a_new_worker())
    let_go(fifo)


class SlowCheck(_Fetch):
    """Its disk takes as long as the test wants to give the header of the whole file."""

    began = threading.Event()
    may_end = threading.Event()

    def _check(self, artifact: Artifact) -> None:
        self.began.set()
        self.may_end.wait(20)
        super()._check(artifact)


def test_while_a_disk_does_not_answer_the_check_of_the_header(fetcher: Fetcher) -> None:
    work = SlowCheck(REQUEST, fetcher.hub(), fetcher.environment(), fetcher.state, fetcher.progress.append)
    cancel(work.from_hub(), once=work.began.is_set)
    work.may_end.set()
    assert not (fetcher.state / "artifacts.json").exists(), "what was not checked is not noted"


class SlowSettle(_Fetch):
    """Its disk takes as long as the test wants to rename the verified file."""

    began = threading.Event()
    may_end = threading.Event()

    def _settle(self, sha256: str, lock: cache.Lock) -> None:
        self.began.set()
        self.may_end.wait(20)
        super()._settle(sha256, lock)


def test_while_the_file_gets_its_name_and_the_lock_is_held_until_it_has_it(fetcher: Fetcher) -> None:
    work = SlowSettle(REQUEST, fetcher.hub(), fetcher.environment(), fetcher.state, fetcher.progress.append)
    cancel(work.from_hub(), once=work.began.is_set)
    other = cache.Lock(fetcher.hub().lock_path(REPO, fetcher.fake.sha256("m.gguf")))
    assert not other.take()
    work.may_end.set()
    asyncio.run(until(other.take))
    other.release()
    downloads = fetcher.downloads()
    fetcher.check(fetcher.fetch())
    assert fetcher.downloads() == downloads


def test_while_a_name_server_does_not_answer() -> None:
    answered = threading.Event()

    def look_up(_host: str, _port: int, _family: int) -> list[AddressInfo]:
        answered.wait(60)
        return []

    cancel(Resolver(look_up).resolve("hub.test"), once=a_new_worker())
    answered.set()


def test_a_host_is_looked_up_as_the_system_does() -> None:
    (address,) = asyncio.run(Resolver().resolve("127.0.0.1", 80))
    assert (address["host"], address["port"], address["hostname"]) == ("127.0.0.1", 80, "127.0.0.1")


def test_progress_is_reported_on_the_event_loops_thread_only(fetcher: Fetcher) -> None:
    fetcher.fetch()
    (fetcher.state / "artifacts.json").unlink()
    reporters: set[int] = set()
    phases: set[str] = set()

    def report(progress: Progress) -> None:
        reporters.add(threading.get_ident())
        phases.add(progress.phase)

    async def again() -> None:
        await fetch(
            REQUEST,
            report,
            state_dir=fetcher.state,
            hub=fetcher.hub(),
            environment=fetcher.environment(),
        )

    asyncio.run(again())
    assert "verifying" in phases
    assert reporters == {threading.get_ident()}


def test_a_thread_hands_its_result_or_its_error_over() -> None:
    def fails(_background: Background) -> None:
        raise FetchError("cannot do it: a test")

    assert asyncio.run(in_thread(lambda _background: 7)) == 7
    with pytest.raises(FetchError, match="a test"):
        asyncio.run(in_thread(fails))


def test_nothing_is_reported_after_a_cancellation() -> None:
    reports: list[int] = []
    may_report, reported = threading.Event(), threading.Event()

    def work(background: Background) -> None:
        may_report.wait(20)
        background.report(reports.append, 1)
        reported.set()

    async def run() -> None:
        task = asyncio.create_task(in_thread(work))
        await until(a_new_worker())
        task.cancel()
        await asyncio.wait({task})
        may_report.set()
        await until(reported.is_set)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert reports == []


def test_a_process_ends_while_a_thread_still_works() -> None:
    code = """
import asyncio, threading
from qwenctl.fetch.clock import in_thread
async def main():
    task = asyncio.create_task(in_thread(lambda background: threading.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=30, check=False).returncode == 0


def test_a_hash_that_is_stopped_is_an_error_and_never_a_wrong_hash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * BLOCK_BYTES))
    hasher = PrefixHash(path, 3 * BLOCK_BYTES)
    hasher.advance(BLOCK_BYTES)
    hasher.close()
    with pytest.raises(FetchError, match="it was stopped"):
        hasher.result()


def test_a_partial_file_is_closed_at_once_and_its_sync_fails_in_words_afterwards(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path / "partial", MIB)
    partial.sync()
    partial.close()
    with pytest.raises(FetchError, match="cannot write"):
        partial.sync()
