"""Which files are used without a request, when an update replaces them, and which files are refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.errors import FetchError
from qwenctl.fetch.gguf_check import local_artifact
from qwenctl.fetch.request import WantedFile
from tests.fakes.fetcher import REQUEST, Fetcher
from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import COMMIT, REPO, Fault

NEWER = "abcdefabcdefabcdefabcdefabcdefabcdefabcd"


def test_a_recorded_artifact_is_used_without_a_request(fetcher: Fetcher) -> None:
    first = fetcher.fetch()
    calls = len(fetcher.fake.log)
    assert fetcher.fetch() == first
    assert fetcher.fetch(offline=True) == first
    assert len(fetcher.fake.log) == calls
    recorded = json.loads((fetcher.state / "artifacts.json").read_text())["artifacts"]
    assert [(entry["repo"], entry["commit"], entry["quant"], entry["fetched"]) for entry in recorded] == [
        (REPO, COMMIT, "Q4_K_M", True)
    ]
    assert recorded[0]["files"][0]["sha256"] == first.files[0].sha256


def test_a_file_that_changed_after_it_was_verified_is_hashed_again_and_replaced(fetcher: Fetcher) -> None:
    artifact = fetcher.fetch()
    content = bytearray(artifact.path.read_bytes())
    content[-1] ^= 1
    artifact.path.resolve().write_bytes(content)
    fetcher.check(fetcher.fetch())


def test_a_file_another_program_left_in_the_cache_is_used_as_it_is(fetcher: Fetcher) -> None:
    artifact = fetcher.fetch()
    shutil.rmtree(fetcher.state)
    moved = fetcher.downloads()
    inode = artifact.path.stat().st_ino
    assert fetcher.fetch().path.stat().st_ino == inode
    assert fetcher.downloads() == moved
    shutil.rmtree(fetcher.state)
    calls = len(fetcher.fake.log)
    fetcher.fetch(replace(REQUEST, revision=COMMIT))
    fetcher.fetch(offline=True)
    assert len(fetcher.fake.log) == calls


def test_wrong_bytes_another_program_left_under_the_right_name_are_replaced(fetcher: Fetcher) -> None:
    artifact = fetcher.fetch()
    shutil.rmtree(fetcher.state)
    artifact.path.resolve().write_bytes(bytes(artifact.files[0].bytes))
    fetcher.check(fetcher.fetch())
    assert "verifying" in {progress.phase for progress in fetcher.progress}


def test_offline_without_the_file_says_so(fetcher: Fetcher) -> None:
    for request, offline in ((REQUEST, True), (replace(REQUEST, offline=True), False)):
        with pytest.raises(FetchError, match=r"cannot fetch Q4_K_M of .* offline"):
            fetcher.fetch(request, offline=offline)
    assert fetcher.fake.log == []


def test_only_an_update_moves_to_a_newer_commit(fetcher: Fetcher, tmp_path: Path) -> None:
    old = fetcher.fetch()
    newer = write_gguf(tmp_path / "newer.gguf", bytes_=300_000).read_bytes()
    fetcher.fake.files = {"m.gguf": newer}
    fetcher.fake._hashes.clear()
    fetcher.fake.branches["main"] = NEWER
    assert fetcher.fetch() == old
    moved = fetcher.fetch(replace(REQUEST, update=True))
    assert moved.commit == NEWER
    fetcher.check(moved)
    assert fetcher.fetch() == moved


def test_an_update_of_a_pinned_commit_follows_main(fetcher: Fetcher) -> None:
    pinned = replace(REQUEST, revision=COMMIT)
    fetcher.fetch(pinned)
    fetcher.fake.branches["main"] = NEWER
    assert fetcher.fetch(replace(pinned, update=True)).commit == NEWER
    assert fetcher.fetch(pinned).commit == NEWER
    assert fetcher.downloads() == 6, "the same bytes under a newer commit do not move again"


def test_another_architecture_never_reaches_the_cache(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match="its architecture is 'qwen35', the profile's is 'llama'"):
        fetcher.fetch(replace(REQUEST, architecture="llama"))
    assert not fetcher.blobs.joinpath(fetcher.fake.sha256("m.gguf")).exists()


def test_a_file_that_is_no_gguf_never_reaches_the_cache(fetcher: Fetcher) -> None:
    fetcher.fake.files = {"m.gguf": b"no model at all" * 1000}
    with pytest.raises(FetchError, match="does not begin with GGUF"):
        fetcher.fetch()
    assert not fetcher.blobs.joinpath(fetcher.fake.sha256("m.gguf")).exists()


def test_a_hash_the_profile_pins_is_compared_with_the_hubs(fetcher: Fetcher) -> None:
    pinned = (WantedFile("m.gguf", None, "0" * 64),)
    with pytest.raises(
        FetchError, match=f"its sha256 is {fetcher.fake.sha256('m.gguf')}, the profile pins 0000"
    ):
        fetcher.fetch(replace(REQUEST, files=pinned))
    assert fetcher.downloads() == 0


def test_a_split_model_arrives_in_all_its_parts(fetcher: Fetcher, model: bytes) -> None:
    names = [f"BF16/m-0000{number}-of-00002.gguf" for number in (1, 2)]
    fetcher.fake.files = {name: model + bytes(number) for number, name in enumerate(names)}
    with pytest.raises(FetchError, match="it is one of 1 parts, its name says 2"):
        fetcher.fetch(replace(REQUEST, files=(WantedFile(names[0]),)))
    parts = sorted(
        path.name for path in (fetcher.hub().folder(REPO) / "snapshots" / COMMIT / "BF16").iterdir()
    )
    assert parts == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def test_the_range_size_may_change_between_two_fetches(fetcher: Fetcher, model: bytes) -> None:
    fetcher.fake.faults = lambda call: (
        Fault(status=500) if call.kind == "bytes" and call.number >= 3 else None
    )
    with pytest.raises(FetchError):
        fetcher.fetch(replace(REQUEST, connections=1))
    fetcher.fake.faults = lambda _call: None
    sent = fetcher.fake.bytes_sent
    fetcher.check(fetcher.fetch(replace(REQUEST, range_mib=8)))
    assert fetcher.fake.bytes_sent - sent == len(model) - 4 * 2**20


@pytest.mark.parametrize("repo", ["../x", "a", "a/b/c", "a/..", "a b/c", "", "models--x/y"])
def test_a_name_that_is_no_repository_is_refused(fetcher: Fetcher, repo: str) -> None:
    with pytest.raises(FetchError, match="not OWNER/NAME"):
        fetcher.fetch(replace(REQUEST, repo=repo))


def test_a_local_file_is_checked_and_used(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "mine.gguf")
    artifact = local_artifact(path, "qwen35")
    assert (artifact.path, artifact.repo, artifact.files[0].bytes) == (path, None, path.stat().st_size)
    with pytest.raises(FetchError, match="architecture"):
        local_artifact(path, "llama")
    with pytest.raises(FetchError, match="no such file"):
        local_artifact(tmp_path / "nothing.gguf")


def test_progress_counts_every_byte_and_ends(fetcher: Fetcher) -> None:
    artifact = fetcher.fetch()
    assert {progress.total_bytes for progress in fetcher.progress} == {artifact.files[0].bytes}
    assert fetcher.progress[-1].bytes == artifact.files[0].bytes
    assert [progress.bytes for progress in fetcher.progress] == sorted(
        progress.bytes for progress in fetcher.progress
    )
