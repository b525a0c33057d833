"""Previews of a fetch, headers without weights, and the removal of leftovers."""

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
from tests.fakes.fetcher import REQUEST, Fetcher
from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import COMMIT, REPO, Fault

NEWER = "abcdefabcdefabcdefabcdefabcdefabcdefabcd"
MIB = 2**20


def preview(fetcher: Fetcher, request: FetchRequest = REQUEST, *, offline: bool = False) -> Preview:
    return asyncio.run(
        dry_run(
            request,
            state_dir=fetcher.state,
            hub=fetcher.hub(offline=offline),
            environment=fetcher.environment(),
        )
    )


def interrupted(fetcher: Fetcher) -> None:
    fetcher.fake.faults = lambda call: (
        Fault(status=500) if call.kind == "bytes" and call.number >= 3 else None
    )
    with pytest.raises(FetchError):
        fetcher.fetch(replace(REQUEST, connections=1))
    fetcher.fake.faults = lambda _call: None


def test_a_dry_run_lists_what_would_be_downloaded_and_writes_nothing(fetcher: Fetcher, model: bytes) -> None:
    before = preview(fetcher)
    assert (before.commit, before.needed_bytes, before.newer_commit) == (COMMIT, len(model), None)
    assert before.files[0].sha256 == fetcher.fake.sha256("m.gguf")
    assert before.free_bytes > 0
    assert not fetcher.cache.exists()
    assert fetcher.downloads() == 0
    interrupted(fetcher)
    assert preview(fetcher).needed_bytes == len(model) - 4 * MIB
    path = fetcher.fetch().path
    after = preview(fetcher)
    assert (after.needed_bytes, after.files[0].path) == (0, path)


def test_a_newer_commit_is_reported_but_not_used(fetcher: Fetcher) -> None:
    used = fetcher.fetch().commit
    fetcher.fake.branches["main"] = NEWER
    assert preview(fetcher).newer_commit == NEWER
    assert preview(fetcher).commit == used
    assert preview(fetcher, offline=True).newer_commit is None
    assert (
        asyncio.run(newer_commit(REQUEST, COMMIT, hub=fetcher.hub(), environment=fetcher.environment()))
        == NEWER
    )
    assert (
        asyncio.run(newer_commit(REQUEST, NEWER, hub=fetcher.hub(), environment=fetcher.environment()))
        is None
    )


def test_a_dry_run_works_while_the_hub_does_not(fetcher: Fetcher) -> None:
    fetcher.fetch()
    fetcher.fake.faults = lambda _call: Fault(status=500)
    assert preview(fetcher).needed_bytes == 0
    with pytest.raises(FetchError, match="offline"):
        preview(fetcher, replace(REQUEST, files=(WantedFile("other.gguf"),)), offline=True)


def test_a_header_is_fetched_without_the_weights(fetcher: Fetcher, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "big.gguf", bytes_=40 * MIB, template=5 * MIB)
    fetcher.fake.files = {"m.gguf": path.read_bytes()}
    header = asyncio.run(
        fetch_header(REQUEST, tmp_path / "headers", hub=fetcher.hub(), environment=fetcher.environment())
    )
    assert header.stat().st_size == path.stat().st_size
    assert header.stat().st_blocks * 512 < 12 * MIB
    ours, theirs = gguf.GGUFReader(header), gguf.GGUFReader(path)
    assert [tensor.name for tensor in ours.tensors] == [tensor.name for tensor in theirs.tensors]
    assert fetcher.downloads() == 2
    pinned = replace(REQUEST, files=(WantedFile("m.gguf", None, fetcher.fake.sha256("m.gguf")),))
    calls = len(fetcher.fake.log)
    assert asyncio.run(fetch_header(pinned, tmp_path / "headers", hub=fetcher.hub())) == header
    assert len(fetcher.fake.log) == calls


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(ignore_range=True), Fault(reset_after=1000), Fault(status=403)]
)
def test_a_header_is_read_in_spite_of_faults(fetcher: Fetcher, tmp_path: Path, fault: Fault) -> None:
    fetcher.fake.faults = lambda call: fault if call.kind == "bytes" and call.number == 0 else None
    header = asyncio.run(
        fetch_header(REQUEST, tmp_path / "headers", hub=fetcher.hub(), environment=fetcher.environment())
    )
    assert gguf.GGUFReader(header).tensors


def test_a_header_that_stays_out_of_reach_is_one_clear_error(fetcher: Fetcher, tmp_path: Path) -> None:
    fetcher.fake.faults = lambda call: Fault(status=500) if call.kind == "bytes" else None
    with pytest.raises(FetchError, match=r"cannot read the header of m\.gguf: .* answers 500"):
        asyncio.run(
            fetch_header(REQUEST, tmp_path / "headers", hub=fetcher.hub(), environment=fetcher.environment())
        )
    assert fetcher.slept == [0.25, 0.5, 1.0, 2.0, 4.0], "no wait after the last attempt"


def test_a_file_that_is_no_gguf_has_no_header(fetcher: Fetcher, tmp_path: Path) -> None:
    fetcher.fake.files = {"m.gguf": b"nothing" * 1000}
    with pytest.raises(FetchError, match="does not begin with GGUF"):
        asyncio.run(
            fetch_header(REQUEST, tmp_path / "headers", hub=fetcher.hub(), environment=fetcher.environment())
        )
    fetcher.fake.files = {"m.gguf": b"GGUF\x03\0\0\0" + b"\x01\0\0\0\0\0\0\0" * 2}
    with pytest.raises(FetchError, match="it ends after"):
        asyncio.run(
            fetch_header(REQUEST, tmp_path / "headers", hub=fetcher.hub(), environment=fetcher.environment())
        )
    assert not list((tmp_path / "headers").rglob("*.gguf"))


def test_leftovers_are_partial_files_and_quants_nobody_uses(fetcher: Fetcher, model: bytes) -> None:
    interrupted(fetcher)
    partial = leftovers(fetcher.cache, fetcher.state, frozenset())
    assert [(found.kind, found.repo) for found in partial] == [("partial", REPO)]
    assert 4 * MIB <= partial[0].bytes < 5 * MIB
    artifact = fetcher.fetch()
    assert leftovers(fetcher.cache, fetcher.state, frozenset({artifact.path})) == ()
    quants = leftovers(fetcher.cache, fetcher.state, frozenset())
    assert [(found.kind, found.name, found.repo) for found in quants] == [("quant", "Q4_K_M", REPO)]
    assert quants[0].bytes >= len(model)
    assert remove(quants, fetcher.state) == quants[0].bytes
    assert not artifact.path.exists()
    assert list(fetcher.blobs.iterdir()) == []
    assert leftovers(fetcher.cache, fetcher.state, frozenset()) == ()


def test_a_file_that_is_just_being_fetched_is_no_leftover(fetcher: Fetcher) -> None:
    interrupted(fetcher)
    lock = Lock(fetcher.hub().lock_path(REPO, fetcher.fake.sha256("m.gguf")))
    assert lock.take()
    assert leftovers(fetcher.cache, fetcher.state, frozenset()) == ()
    lock.release()
    assert leftovers(fetcher.cache, fetcher.state, frozenset())


def test_a_file_that_another_program_downloaded_is_no_leftover(fetcher: Fetcher) -> None:
    fetcher.fetch()
    (fetcher.state / "artifacts.json").unlink()
    fetcher.fetch()
    assert leftovers(fetcher.cache, fetcher.state, frozenset()) == ()


def test_a_file_that_an_update_replaced_is_a_leftover(fetcher: Fetcher, tmp_path: Path) -> None:
    old = fetcher.fetch()
    fetcher.fake.files = {"m.gguf": write_gguf(tmp_path / "newer.gguf").read_bytes()}
    fetcher.fake._hashes.clear()
    fetcher.fake.branches["main"] = NEWER
    new = fetcher.fetch(replace(REQUEST, update=True))
    found = leftovers(fetcher.cache, fetcher.state, frozenset({new.path}))
    remove(found, fetcher.state)
    assert not old.path.exists()
    fetcher.check(new)
    assert fetcher.fetch() == new


def test_a_file_of_two_commits_stays_while_one_of_them_is_used(fetcher: Fetcher) -> None:
    old = fetcher.fetch(replace(REQUEST, revision=COMMIT))
    fetcher.fake.branches["main"] = NEWER
    new = fetcher.fetch(replace(REQUEST, revision=COMMIT, update=True))
    assert new.path != old.path
    remove(leftovers(fetcher.cache, fetcher.state, frozenset({new.path})), fetcher.state)
    fetcher.check(new)


@pytest.mark.parametrize("hashes", ["known", "unknown", "of no file"])
def test_the_partial_file_of_what_is_wanted_is_no_leftover(fetcher: Fetcher, hashes: str) -> None:
    interrupted(fetcher)
    sha256 = fetcher.fake.sha256("m.gguf") if hashes == "known" else None
    files = () if hashes == "of no file" else (WantedFile("m.gguf", None, sha256),)
    wanted = replace(REQUEST, files=files)
    assert leftovers(fetcher.cache, fetcher.state, frozenset(), (wanted,)) == ()
    other = replace(REQUEST, files=(WantedFile("n.gguf", None, "0" * 64),))
    elsewhere = replace(wanted, repo="someone/Other-GGUF")
    (found,) = leftovers(fetcher.cache, fetcher.state, frozenset(), (other, elsewhere))
    assert found.kind == "partial"


def test_removing_a_quant_leaves_no_ref_to_its_commit(fetcher: Fetcher) -> None:
    fetcher.fetch()
    remove(leftovers(fetcher.cache, fetcher.state, frozenset()), fetcher.state)
    folder = fetcher.hub().folder(REPO)
    assert [path for path in (folder / "refs").rglob("*") if path.is_file()] == []
    assert list((folder / "snapshots").iterdir()) == []
