"""A repository is listed once, kept, and used again: without a hub, too. Headers are read by range."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from qwenctl.errors import ExitCode, FetchError
from qwenctl.fetch.listing import (
    ReadListing,
    RemoteHeader,
    RepositoryListing,
    read_listing,
    read_remote_header,
)
from qwenctl.fetch.request import RemoteFile
from qwenctl.model.from_listing import repository_of
from tests.fakes.fetcher import Fetcher
from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import COMMIT, REPO, Fault, HubRequest
from tests.fakes.repository import sparse_repository

NEWER = "abcdefabcdefabcdefabcdefabcdefabcdefabcd"
MIB = 2**20


def listed(
    fetcher: Fetcher,
    repo: str = REPO,
    revision: str = "main",
    *,
    offline: bool = False,
    update: bool = False,
    sufficient: Callable[[RepositoryListing], bool] = lambda _: True,
) -> ReadListing:
    return asyncio.run(
        read_listing(
            repo,
            revision,
            folder=fetcher.folder / "listings",
            hub=fetcher.hub(offline=offline),
            environment=fetcher.environment(),
            update=update,
            sufficient=sufficient,
        )
    )


def headers(
    fetcher: Fetcher, listing: RepositoryListing, files: tuple[RemoteFile, ...], *, offline: bool = False
) -> tuple[RemoteHeader, ...]:
    return asyncio.run(
        read_remote_header(
            listing,
            files,
            folder=fetcher.folder / "headers",
            hub=fetcher.hub(offline=offline),
            environment=fetcher.environment(),
        )
    )


def away(_call: HubRequest) -> Fault:
    return Fault(status=503)


def test_the_hub_is_asked_once_and_the_listing_serves_offline_after_that(fetcher: Fetcher) -> None:
    first = listed(fetcher)
    assert first.warning is None
    (file,) = first.listing.files
    assert (first.listing.commit, file.name, file.sha256) == (COMMIT, "m.gguf", fetcher.fake.sha256("m.gguf"))
    assert listed(fetcher) == first
    assert listed(fetcher, offline=True) == first
    by_commit = listed(fetcher, revision=COMMIT, offline=True)
    assert by_commit.listing.files == first.listing.files
    assert fetcher.fake.count("info") == 1


def test_only_an_update_or_a_file_that_is_not_listed_asks_again(fetcher: Fetcher, model: bytes) -> None:
    listed(fetcher)
    fetcher.fake.branches["main"] = NEWER
    fetcher.fake.files = {"m.gguf": model, "n.gguf": model}
    assert listed(fetcher).listing.commit == COMMIT
    has_n = lambda listing: any(file.name == "n.gguf" for file in listing.files)  # noqa: E731
    assert listed(fetcher, sufficient=has_n).listing.commit == NEWER
    assert fetcher.fake.count("info") == 2
    assert listed(fetcher, update=True).listing.commit == NEWER
    assert fetcher.fake.count("info") == 3


def test_a_hub_that_cannot_be_reached_leaves_the_kept_listing_with_a_warning(fetcher: Fetcher) -> None:
    first = listed(fetcher)
    fetcher.fake.faults = away
    again = listed(fetcher, update=True)
    assert again.listing == first.listing
    assert again.warning is not None
    assert again.warning.startswith(f"cannot read {REPO}: the hub answers 503; ")
    offline = listed(fetcher, update=True, offline=True)
    assert offline.warning is not None
    assert "qwenctl is offline" in offline.warning


def test_without_a_kept_listing_a_hub_that_is_away_is_one_clear_line(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError, match=r"^cannot list the files of .*: qwenctl is offline$") as error:
        listed(fetcher, offline=True)
    assert error.value.hint is not None
    assert error.value.exit_code == ExitCode.FETCH
    assert fetcher.fake.log == []
    fetcher.fake.faults = away
    with pytest.raises(FetchError, match="the hub answers 503"):
        listed(fetcher)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), "it is gated"),
        (Fault(status=401, headers={"X-Error-Code": "RepoNotFound"}), "there is none, or it is private"),
        (Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}), "there is none, or it is private"),
        (Fault(status=404, headers={"X-Error-Code": "RevisionNotFound"}), "no such branch, tag or commit"),
        (Fault(body=b"<html>please log in</html>"), "makes no sense"),
    ],
)
def test_a_repository_that_cannot_be_had_is_one_line_with_a_hint(
    fetcher: Fetcher, fault: Fault, message: str
) -> None:
    fetcher.fake.faults = lambda _call: fault
    with pytest.raises(FetchError, match=message) as error:
        listed(fetcher)
    assert error.value.message.startswith("cannot ")
    assert "\n" not in error.value.message
    assert error.value.hint is not None
    assert not (fetcher.folder / "listings").exists()


def test_a_misspelt_repository_says_to_check_the_spelling(fetcher: Fetcher) -> None:
    with pytest.raises(FetchError) as error:
        listed(fetcher, repo="someone/Modle-GGUF")
    assert "check the spelling" in (error.value.hint or "")


def test_a_repository_without_a_gguf_says_what_it_has_and_where_to_look(fetcher: Fetcher) -> None:
    fetcher.fake.files = {"model-00001-of-00002.safetensors": b"x" * 10, "config.json": b"{}"}
    with pytest.raises(FetchError, match="has no GGUF files; its weights are safetensors") as error:
        listed(fetcher)
    assert f"{REPO}-GGUF" in (error.value.hint or "")
    fetcher.fake.files = {}
    with pytest.raises(FetchError, match=r"has no GGUF files$"):
        listed(fetcher)


OTHERS = f'{{"repo": "other/x", "revision": "main", "commit": "{COMMIT}", "files": []}}'


@pytest.mark.parametrize("damage", ["", "{}", OTHERS, "[" * 100])
def test_a_damaged_kept_listing_is_asked_for_again(fetcher: Fetcher, damage: str) -> None:
    first = listed(fetcher)
    (kept,) = (fetcher.folder / "listings").rglob(f"{COMMIT}.json")
    kept.write_text(damage)
    assert listed(fetcher) == first
    assert fetcher.fake.count("info") == 2


def test_a_listing_of_twenty_quants_costs_one_request_and_a_header_some_kilobytes(
    fetcher: Fetcher, tmp_path: Path
) -> None:
    fetcher.fake.files = sparse_repository(tmp_path / "hub")
    fetcher.fake.know_hashes()
    listing = listed(fetcher).listing
    repository = repository_of(listing.files)
    assert len(repository.models) == 20
    assert len(repository.of_kind("projector")) == 1
    (split,) = repository.find("BF16")
    files = tuple(RemoteFile(file.name, file.bytes, file.sha256) for file in split.files)
    first, second = headers(fetcher, listing, files)
    assert (first.header.architecture, second.header.architecture) == ("llama", None)
    assert first.path.stat().st_size == files[0].bytes > 7 * 10**9
    assert first.path.parent == second.path.parent, "llama.cpp looks for the other parts beside the first"
    assert fetcher.fake.bytes_sent < 20 * MIB
    asked = len(fetcher.fake.log)
    assert headers(fetcher, listing, files, offline=True) == (first, second)
    assert len(fetcher.fake.log) == asked


def test_a_header_that_is_not_kept_is_one_clear_line_offline(fetcher: Fetcher) -> None:
    listing = listed(fetcher).listing
    with pytest.raises(FetchError, match=r"cannot read the header of m\.gguf in .*: qwenctl is offline"):
        headers(fetcher, listing, listing.files, offline=True)


def test_a_gated_file_is_one_clear_line(fetcher: Fetcher) -> None:
    listing = listed(fetcher).listing
    fetcher.fake.faults = lambda _call: Fault(status=403, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(FetchError, match="gated") as error:
        headers(fetcher, listing, listing.files)
    assert "HF_TOKEN" in (error.value.hint or "")


def test_a_name_that_leaves_the_folder_is_never_listed(fetcher: Fetcher, tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "x.gguf").read_bytes()
    fetcher.fake.files = {"../../evil.gguf": content, "/etc/evil.gguf": content, "good.gguf": content}
    assert [file.name for file in listed(fetcher).listing.files] == ["good.gguf"]


def test_without_a_kept_listing_what_the_cache_has_is_listed_offline(fetcher: Fetcher, model: bytes) -> None:
    fetcher.fetch()
    fetcher.fake.files = {"m.gguf": model, "n.gguf": model}
    found = listed(fetcher, offline=True)
    assert [file.name for file in found.listing.files] == ["m.gguf"]
    assert found.listing.commit == COMMIT
    assert found.warning is not None
    assert "only its files on this disk are known" in found.warning
    assert len(listed(fetcher).listing.files) == 2, "such a listing is not kept"


def test_the_header_of_a_file_that_is_here_is_read_from_it(fetcher: Fetcher) -> None:
    artifact = fetcher.fetch()
    asked = len(fetcher.fake.log)
    listing = listed(fetcher, offline=True).listing
    (read,) = headers(fetcher, listing, listing.files, offline=True)
    assert read.path == artifact.path
    assert read.header.architecture == "qwen35"
    assert len(fetcher.fake.log) == asked
    artifact.path.unlink()
    with pytest.raises(FetchError, match="offline"):
        headers(fetcher, listing, listing.files, offline=True)
