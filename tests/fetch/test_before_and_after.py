"""Looking before a fetch, headers without weights, and cleaning up afterwards."""

import asyncio
from dataclasses import replace
from pathlib import Path

import gguf
import pytest

from qwenctl.errors import FetchError
from qwenctl.fetch.cache import Lock
from qwenctl.fetch.preview import Preview, dry_run, newer_commit
from qwenctl.fetch.prune import leftovers, remove
from qwenctl.fetch.remote_header import fetch_header
from qwenctl.fetch.request import FetchRequest, WantedFile
from tests.fakes.desk import REQUEST, Desk
from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import COMMIT, REPO, Fault

NEWER = "abcdefabcdefabcdefabcdefabcdefabcdefabcd"
MIB = 2**20


def preview(desk: Desk, request: FetchRequest = REQUEST, *, offline: bool = False) -> Preview:
    return asyncio.run(
        dry_run(request, state_dir=desk.state, hub=desk.hub(offline=offline), world=desk.world())
    )


def interrupted(desk: Desk) -> None:
    desk.fake.faults = lambda asked: (
        Fault(status=500) if asked.kind == "bytes" and asked.number >= 3 else None
    )
    with pytest.raises(FetchError):
        desk.fetch(replace(REQUEST, connections=1))
    desk.fake.faults = lambda _asked: None


def test_a_dry_run_says_what_would_move_and_writes_nothing(desk: Desk, model: bytes) -> None:
    before = preview(desk)
    assert (before.commit, before.needed_bytes, before.newer_commit) == (COMMIT, len(model), None)
    assert before.files[0].sha256 == desk.fake.sha256("m.gguf")
    assert before.free_bytes > 0
    assert not desk.cache.exists()
    assert desk.downloads() == 0
    interrupted(desk)
    assert preview(desk).needed_bytes == len(model) - 4 * MIB
    path = desk.fetch().path
    after = preview(desk)
    assert (after.needed_bytes, after.files[0].path) == (0, path)


def test_a_newer_commit_is_told_and_not_taken(desk: Desk) -> None:
    used = desk.fetch().commit
    desk.fake.branches["main"] = NEWER
    assert preview(desk).newer_commit == NEWER
    assert preview(desk).commit == used
    assert preview(desk, offline=True).newer_commit is None
    assert asyncio.run(newer_commit(REQUEST, COMMIT, hub=desk.hub(), world=desk.world())) == NEWER
    assert asyncio.run(newer_commit(REQUEST, NEWER, hub=desk.hub(), world=desk.world())) is None


def test_a_dry_run_works_while_the_hub_does_not(desk: Desk) -> None:
    desk.fetch()
    desk.fake.faults = lambda _asked: Fault(status=500)
    assert preview(desk).needed_bytes == 0
    with pytest.raises(FetchError, match="offline"):
        preview(desk, replace(REQUEST, files=(WantedFile("other.gguf"),)), offline=True)


def test_a_header_is_fetched_without_the_weights(desk: Desk, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "big.gguf", bytes_=40 * MIB, template=5 * MIB)
    desk.fake.files = {"m.gguf": path.read_bytes()}
    header = asyncio.run(fetch_header(REQUEST, tmp_path / "headers", hub=desk.hub(), world=desk.world()))
    assert header.stat().st_size == path.stat().st_size
    assert header.stat().st_blocks * 512 < 12 * MIB
    ours, theirs = gguf.GGUFReader(header), gguf.GGUFReader(path)
    assert [tensor.name for tensor in ours.tensors] == [tensor.name for tensor in theirs.tensors]
    assert desk.downloads() == 2
    pinned = replace(REQUEST, files=(WantedFile("m.gguf", None, desk.fake.sha256("m.gguf")),))
    asked = len(desk.fake.log)
    assert asyncio.run(fetch_header(pinned, tmp_path / "headers", hub=desk.hub())) == header
    assert len(desk.fake.log) == asked


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(ignore_range=True), Fault(reset_after=1000), Fault(status=403)]
)
def test_a_header_comes_through_faults(desk: Desk, tmp_path: Path, fault: Fault) -> None:
    desk.fake.faults = lambda asked: fault if asked.kind == "bytes" and asked.number == 0 else None
    header = asyncio.run(fetch_header(REQUEST, tmp_path / "headers", hub=desk.hub(), world=desk.world()))
    assert gguf.GGUFReader(header).tensors


def test_what_is_no_gguf_has_no_header(desk: Desk, tmp_path: Path) -> None:
    desk.fake.files = {"m.gguf": b"nothing" * 1000}
    with pytest.raises(FetchError, match="does not begin with GGUF"):
        asyncio.run(fetch_header(REQUEST, tmp_path / "headers", hub=desk.hub(), world=desk.world()))
    desk.fake.files = {"m.gguf": b"GGUF\x03\0\0\0" + b"\x01\0\0\0\0\0\0\0" * 2}
    with pytest.raises(FetchError, match="it ends after"):
        asyncio.run(fetch_header(REQUEST, tmp_path / "headers", hub=desk.hub(), world=desk.world()))
    assert not list((tmp_path / "headers").rglob("*.gguf"))


def test_leftovers_are_partial_files_and_quants_nobody_uses(desk: Desk, model: bytes) -> None:
    interrupted(desk)
    partial = leftovers(desk.cache, desk.state, frozenset())
    assert [(found.kind, found.repo) for found in partial] == [("partial", REPO)]
    assert 4 * MIB <= partial[0].bytes < 5 * MIB
    artifact = desk.fetch()
    assert leftovers(desk.cache, desk.state, frozenset({artifact.path})) == ()
    quants = leftovers(desk.cache, desk.state, frozenset())
    assert [(found.kind, found.name, found.repo) for found in quants] == [("quant", "Q4_K_M", REPO)]
    assert quants[0].bytes >= len(model)
    assert remove(quants, desk.state) == quants[0].bytes
    assert not artifact.path.exists()
    assert list(desk.blobs.iterdir()) == []
    assert leftovers(desk.cache, desk.state, frozenset()) == ()


def test_a_file_that_is_just_being_fetched_is_no_leftover(desk: Desk) -> None:
    interrupted(desk)
    lock = Lock(desk.hub().lock_path(REPO, desk.fake.sha256("m.gguf")))
    assert lock.take()
    assert leftovers(desk.cache, desk.state, frozenset()) == ()
    lock.release()
    assert leftovers(desk.cache, desk.state, frozenset())


def test_what_another_program_downloaded_is_no_leftover(desk: Desk) -> None:
    desk.fetch()
    (desk.state / "artifacts.json").unlink()
    desk.fetch()
    assert leftovers(desk.cache, desk.state, frozenset()) == ()


def test_what_an_update_left_behind_is_a_leftover(desk: Desk, tmp_path: Path) -> None:
    old = desk.fetch()
    desk.fake.files = {"m.gguf": write_gguf(tmp_path / "newer.gguf").read_bytes()}
    desk.fake._hashes.clear()
    desk.fake.branches["main"] = NEWER
    new = desk.fetch(replace(REQUEST, update=True))
    found = leftovers(desk.cache, desk.state, frozenset({new.path}))
    remove(found, desk.state)
    assert not old.path.exists()
    desk.check(new)
    assert desk.fetch() == new


def test_bytes_two_commits_share_stay_while_one_is_used(desk: Desk) -> None:
    old = desk.fetch(replace(REQUEST, revision=COMMIT))
    desk.fake.branches["main"] = NEWER
    new = desk.fetch(replace(REQUEST, revision=COMMIT, update=True))
    assert new.path != old.path
    remove(leftovers(desk.cache, desk.state, frozenset({new.path})), desk.state)
    desk.check(new)
