"""What is used without a request, what moves an artifact on, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.errors import FetchError
from qwenctl.fetch.gguf_check import local_artifact
from qwenctl.fetch.request import WantedFile
from tests.fakes.desk import REQUEST, Desk
from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import COMMIT, REPO, Fault

NEWER = "abcdefabcdefabcdefabcdefabcdefabcdefabcd"


def test_a_recorded_artifact_is_used_without_a_request(desk: Desk) -> None:
    first = desk.fetch()
    asked = len(desk.fake.log)
    assert desk.fetch() == first
    assert desk.fetch(offline=True) == first
    assert len(desk.fake.log) == asked
    recorded = json.loads((desk.state / "artifacts.json").read_text())["artifacts"]
    assert [(entry["repo"], entry["commit"], entry["quant"], entry["fetched"]) for entry in recorded] == [
        (REPO, COMMIT, "Q4_K_M", True)
    ]
    assert recorded[0]["files"][0]["sha256"] == first.files[0].sha256


def test_a_file_that_changed_after_it_was_verified_is_hashed_again_and_replaced(desk: Desk) -> None:
    artifact = desk.fetch()
    content = bytearray(artifact.path.read_bytes())
    content[-1] ^= 1
    artifact.path.resolve().write_bytes(content)
    desk.check(desk.fetch())


def test_a_file_another_program_left_in_the_cache_is_used_as_it_is(desk: Desk) -> None:
    artifact = desk.fetch()
    shutil.rmtree(desk.state)
    moved = desk.downloads()
    inode = artifact.path.stat().st_ino
    assert desk.fetch().path.stat().st_ino == inode
    assert desk.downloads() == moved
    shutil.rmtree(desk.state)
    asked = len(desk.fake.log)
    desk.fetch(replace(REQUEST, revision=COMMIT))
    desk.fetch(offline=True)
    assert len(desk.fake.log) == asked


def test_wrong_bytes_another_program_left_under_the_right_name_are_replaced(desk: Desk) -> None:
    artifact = desk.fetch()
    shutil.rmtree(desk.state)
    artifact.path.resolve().write_bytes(bytes(artifact.files[0].bytes))
    desk.check(desk.fetch())
    assert "verifying" in {progress.phase for progress in desk.seen}


def test_offline_without_the_file_says_so(desk: Desk) -> None:
    for request, offline in ((REQUEST, True), (replace(REQUEST, offline=True), False)):
        with pytest.raises(FetchError, match=r"cannot fetch Q4_K_M of .* offline"):
            desk.fetch(request, offline=offline)
    assert desk.fake.log == []


def test_only_an_update_moves_to_a_newer_commit(desk: Desk, tmp_path: Path) -> None:
    old = desk.fetch()
    newer = write_gguf(tmp_path / "newer.gguf", bytes_=300_000).read_bytes()
    desk.fake.files = {"m.gguf": newer}
    desk.fake._hashes.clear()
    desk.fake.branches["main"] = NEWER
    assert desk.fetch() == old
    moved = desk.fetch(replace(REQUEST, update=True))
    assert moved.commit == NEWER
    desk.check(moved)
    assert desk.fetch() == moved


def test_an_update_of_a_pinned_commit_follows_main(desk: Desk) -> None:
    pinned = replace(REQUEST, revision=COMMIT)
    desk.fetch(pinned)
    desk.fake.branches["main"] = NEWER
    assert desk.fetch(replace(pinned, update=True)).commit == NEWER
    assert desk.fetch(pinned).commit == NEWER
    assert desk.downloads() == 6, "the same bytes under a newer commit do not move again"


def test_another_architecture_never_reaches_the_cache(desk: Desk) -> None:
    with pytest.raises(FetchError, match="its architecture is 'qwen35', the profile's is 'llama'"):
        desk.fetch(replace(REQUEST, architecture="llama"))
    assert not desk.blobs.joinpath(desk.fake.sha256("m.gguf")).exists()


def test_a_file_that_is_no_gguf_never_reaches_the_cache(desk: Desk) -> None:
    desk.fake.files = {"m.gguf": b"no model at all" * 1000}
    with pytest.raises(FetchError, match="does not begin with GGUF"):
        desk.fetch()
    assert not desk.blobs.joinpath(desk.fake.sha256("m.gguf")).exists()


def test_a_hash_the_profile_pins_is_compared_with_the_hubs(desk: Desk) -> None:
    pinned = (WantedFile("m.gguf", None, "0" * 64),)
    with pytest.raises(
        FetchError, match=f"its sha256 is {desk.fake.sha256('m.gguf')}, the profile pins 0000"
    ):
        desk.fetch(replace(REQUEST, files=pinned))
    assert desk.downloads() == 0


def test_a_split_model_arrives_in_all_its_parts(desk: Desk, model: bytes) -> None:
    names = [f"BF16/m-0000{number}-of-00002.gguf" for number in (1, 2)]
    desk.fake.files = {name: model + bytes(number) for number, name in enumerate(names)}
    with pytest.raises(FetchError, match="it is one of 1 parts, its name says 2"):
        desk.fetch(replace(REQUEST, files=(WantedFile(names[0]),)))
    parts = sorted(path.name for path in (desk.hub().folder(REPO) / "snapshots" / COMMIT / "BF16").iterdir())
    assert parts == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_the_range_size_may_change_between_two_fetches(desk: Desk, model: bytes) -> None:
    desk.fake.faults = lambda asked: (
        Fault(status=500) if asked.kind == "bytes" and asked.number >= 3 else None
    )
    with pytest.raises(FetchError):
        desk.fetch(replace(REQUEST, connections=1))
    desk.fake.faults = lambda _asked: None
    sent = desk.fake.bytes_sent
    desk.check(desk.fetch(replace(REQUEST, range_mib=8)))
    assert desk.fake.bytes_sent - sent == len(model) - 4 * 2**20


@pytest.mark.parametrize("repo", ["../x", "a", "a/b/c", "a/..", "a b/c", "", "models--x/y"])
def test_a_repository_that_is_none_is_refused(desk: Desk, repo: str) -> None:
    with pytest.raises(FetchError, match="not OWNER/NAME"):
        desk.fetch(replace(REQUEST, repo=repo))


def test_a_local_file_is_checked_and_used(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "mine.gguf")
    artifact = local_artifact(path, "qwen35")
    assert (artifact.path, artifact.repo, artifact.files[0].bytes) == (path, None, path.stat().st_size)
    with pytest.raises(FetchError, match="architecture"):
        local_artifact(path, "llama")
    with pytest.raises(FetchError, match="no such file"):
        local_artifact(tmp_path / "nothing.gguf")


def test_progress_counts_every_byte_and_ends(desk: Desk) -> None:
    artifact = desk.fetch()
    assert {progress.total_bytes for progress in desk.seen} == {artifact.files[0].bytes}
    assert desk.seen[-1].bytes == artifact.files[0].bytes
    assert [progress.bytes for progress in desk.seen] == sorted(progress.bytes for progress in desk.seen)
