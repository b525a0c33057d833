"""The listing and the files of releases, from a server on loopback that misbehaves."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from yarl import URL

from qwenctl.engine.builds.release_api import ReleaseApi, refused
from qwenctl.engine.builds.release_download import RANGE_BYTES, DownloadedAsset, download, expected_digest
from qwenctl.engine.builds.releases import ReleaseAsset, parse_release
from qwenctl.errors import FetchError
from qwenctl.fetch.clock import FetchEnvironment, RetryPolicy
from qwenctl.fetch.download_url import redirected
from tests.fakes.disk import small_disk
from tests.fakes.engine_archive import noise
from tests.fakes.home import until
from tests.fakes.release_server import ReleaseFault, ReleaseFaults, ReleaseServer

ROOT = Path(__file__).parents[2]
MIB = 2**20
NAME = "llama-b11500-bin-ubuntu-x64.tar.gz"
IMPORTS = "import asyncio, sys; from pathlib import Path; from tests.engine.test_release_download import *"
CONTENT = noise(20 * MIB)
"""Three ranges."""


async def _no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


QUICK = FetchEnvironment(
    sleep=_no_wait,
    transfer_policy=RetryPolicy(attempts=4),
    metadata_policy=RetryPolicy(attempts=3),
    margin_bytes=0,
)


def server(faults: ReleaseFaults = lambda _request: None, **changes: object) -> ReleaseServer:
    made = ReleaseServer({"b11500": {NAME: CONTENT}}, faults)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def api(there: ReleaseServer, cache: Path, *, offline: bool = False) -> ReleaseApi:
    return ReleaseApi(there.base, cache, QUICK, offline=offline)


def asset_of(there: ReleaseServer) -> ReleaseAsset:
    return parse_release(there.release_json("b11500")).assets[0]


def bring(there: ReleaseServer, folder: Path, **given: str) -> DownloadedAsset:
    return asyncio.run(download(asset_of(there), folder, QUICK, lambda _name, _done, _total: None, **given))


def bytes_fault(fault: ReleaseFault, *numbers: int) -> ReleaseFaults:
    return lambda request: fault if request.kind == "bytes" and request.number in numbers else None


# the listing


def test_the_listing_is_asked_once_and_then_with_its_etag(tmp_path: Path) -> None:
    with server() as there:
        first = asyncio.run(api(there, tmp_path).newest())
        again = asyncio.run(api(there, tmp_path).newest())
        assert [release.tag for release in first.releases] == ["b11500"]
        assert again == first
        assert first.note is None
        assert [("If-None-Match" in request.headers) for request in there.log] == [False, True]


def test_a_stable_release_leads_to_its_build(tmp_path: Path) -> None:
    with server() as there:
        there.releases["v0.6.0"] = {"nightly-tag.txt": b"b11500\n"}
        listing = asyncio.run(api(there, tmp_path).tagged("v0.6.0"))
    assert [release.tag for release in listing.releases] == ["b11500"]


@pytest.mark.parametrize("tag", ["b99999", "../secret", "a/b", ""])
def test_a_release_that_does_not_exist_is_named(tmp_path: Path, tag: str) -> None:
    with server() as there, pytest.raises(FetchError, match="cannot find release") as caught:
        asyncio.run(api(there, tmp_path).tagged(tag))
    assert "b11476" in str(caught.value.hint)


def test_a_used_up_limit_says_until_when_and_the_last_answer_is_used(tmp_path: Path) -> None:
    reset = int(time.time()) + 600
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Limit": "60", "X-RateLimit-Reset": str(reset)}
    limited = ReleaseFault(status=403, headers=headers)
    with server(lambda request: limited if request.number else None) as there:
        asyncio.run(api(there, tmp_path / "kept").newest())
        listing = asyncio.run(api(there, tmp_path / "kept").newest())
        at = time.strftime("%H:%M", time.localtime(reset))
        assert f"the limit of 60 requests an hour is used up until {at}; this is the list of" in str(
            listing.note
        )
        with pytest.raises(FetchError, match="is used up until") as caught:
            asyncio.run(api(there, tmp_path / "empty").newest())
        assert "GITHUB_TOKEN" in str(caught.value.hint)
        assert there.count("listing") == 3, "a limit is not asked again at once"


def test_without_a_network_the_kept_listing_is_used_and_says_so(tmp_path: Path) -> None:
    with server() as there:
        asyncio.run(api(there, tmp_path).newest())
    listing = asyncio.run(api(there, tmp_path).newest())  # nobody listens any more
    assert [release.tag for release in listing.releases] == ["b11500"]
    assert "cannot reach 127.0.0.1" in str(listing.note)


def test_offline_nothing_is_asked(tmp_path: Path) -> None:
    with server() as there:
        with pytest.raises(FetchError, match="qwenctl is offline") as caught:
            asyncio.run(api(there, tmp_path, offline=True).newest())
        assert there.log == []
    assert "--from FILE" in str(caught.value.hint)


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[[[", b'{"message": "hi"}', b"\xff\xfe"])
def test_a_login_page_is_no_listing(tmp_path: Path, body: bytes) -> None:
    page = ReleaseFault(body=body)
    with (
        server(lambda _request: page) as there,
        pytest.raises(FetchError, match="cannot read the list") as caught,
    ):
        asyncio.run(api(there, tmp_path).newest())
    assert "login page" in str(caught.value.hint)


def test_an_endless_listing_is_not_read_to_its_end(tmp_path: Path) -> None:
    huge = ReleaseFault(body=b" " * (17 * MIB))
    with server(lambda _request: huge) as there, pytest.raises(FetchError, match="longer than"):
        asyncio.run(api(there, tmp_path).newest())


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with server(lambda request: ReleaseFault(status=502) if request.number < 2 else None) as there:
        assert asyncio.run(api(there, tmp_path).newest()).releases


def test_statuses_are_put_into_words() -> None:
    assert "the token is refused" in refused("x", 401, {}).message
    assert "the server answers 500" in refused("x", 500, {}).message
    assert (
        "until ?" in refused("x", 403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 40}).message
    )


def test_the_token_goes_to_the_api_alone(tmp_path: Path) -> None:
    """In a process of its own: the token is in its environment."""
    with server() as there, server() as other:
        there.releases["v1.0.0"] = {"nightly-tag.txt": b"b11500"}
        away = ReleaseFault(location=other.storage)
        there.faults = lambda request: away if request.kind == "link" else None
        other.releases["v1.0.0"] = {"nightly-tag.txt": b"b11500"}
        code = (
            f"{IMPORTS}\n"
            f"api = ReleaseApi({there.base!r}, Path({str(tmp_path)!r}), QUICK, offline=False)\n"
            "release = asyncio.run(api.tagged('v1.0.0')).releases[0]\n"
            "asyncio.run(download(release.assets[0], Path(sys.argv[1]), QUICK, lambda *_: None))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "files")],
            cwd=ROOT,
            env={**os.environ, "GITHUB_TOKEN": "secret-token"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = {request.kind for request in there.log if "secret-token" in str(request.headers)}
        assert told == {"tag", "link"}
        assert [request.kind for request in there.log if "secret" in str(request.headers)].count("link") == 1
        assert other.count("bytes") >= 4
        assert not any("secret" in str(request.headers) for request in other.log)


# the files


def test_a_file_is_brought_in_ranges_and_verified(tmp_path: Path) -> None:
    with server() as there:
        done = bring(there, tmp_path)
    assert done.path.read_bytes() == CONTENT
    assert done.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert all("Range" in request.headers for request in there.log if request.kind == "bytes")


def test_a_cut_connection_goes_on_where_it_ended(tmp_path: Path) -> None:
    with server(bytes_fault(ReleaseFault(cut_after=3 * MIB), 0, 1, 2)) as there:
        assert bring(there, tmp_path).path.read_bytes() == CONTENT
        assert there.bytes_sent < len(CONTENT) + 3 * MIB


def test_a_download_that_cannot_go_on_says_how_to_and_keeps_its_bytes(tmp_path: Path) -> None:
    async def until_a_range_is_here(_seconds: float) -> None:
        def here() -> bool:
            return any(len(each.read_text().splitlines()) > 1 for each in tmp_path.glob("*.journal"))

        while not here():  # noqa: ASYNC110 - a journal has no event to wait for
            await asyncio.sleep(0.001)

    with server() as there:
        there.faults = bytes_fault(ReleaseFault(status=503), *range(1, 100))
        waiting = replace(QUICK, sleep=until_a_range_is_here)
        with pytest.raises(FetchError, match=f"cannot fetch {NAME}: 4 tries in a row failed") as caught:
            asyncio.run(download(asset_of(there), tmp_path, waiting, lambda *_: None))
        assert f"fetch {NAME} from {there.api}/ggml-org/llama.cpp/releases/" in str(caught.value.hint)
        assert "--from FILE" in str(caught.value.hint)
        there.faults, before = (lambda _request: None), there.bytes_sent
        bring(there, tmp_path)
        assert there.bytes_sent - before == len(CONTENT) - RANGE_BYTES


def test_another_digest_is_refused_and_its_bytes_are_removed(tmp_path: Path) -> None:
    flipped = bytes_fault(ReleaseFault(flip=True), *range(100))
    with (
        server(flipped) as there,
        pytest.raises(FetchError, match=r"its sha256 is \w+, the listing") as caught,
    ):
        bring(there, tmp_path)
    assert "removed" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_digest_needs_one_from_elsewhere(tmp_path: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    with server(digests=False) as there:
        with pytest.raises(FetchError, match="the listing has no sha256 of it") as caught:
            bring(there, tmp_path)
        assert there.log == [], "nothing is downloaded that could not be verified"
        assert "--sha256 HEX" in str(caught.value.hint)
        assert bring(there, tmp_path, sha256=digest).sha256 == digest
        with pytest.raises(FetchError, match="its sha256 is"):
            bring(there, tmp_path, sha256="0" * 64)


def test_a_digest_that_contradicts_the_listing_is_refused_before_a_byte() -> None:
    asset = ReleaseAsset(NAME, 1, "https://a.example/x", "a" * 64)
    with pytest.raises(FetchError, match="the listing says sha256 aaa"):
        expected_digest(asset, "b" * 64)


def test_a_redirect_to_another_host_is_followed_because_the_digest_decides(tmp_path: Path) -> None:
    with server() as there, server() as other:
        away = ReleaseFault(location=other.storage)
        there.faults = lambda request: away if request.kind == "link" else None
        assert bring(there, tmp_path / "good").path.read_bytes() == CONTENT
        other.releases["b11500"] = {NAME: bytes(len(CONTENT))}
        with pytest.raises(FetchError, match="the listing says"):
            bring(there, tmp_path / "evil")


def test_a_redirect_that_gives_up_encryption_is_refused() -> None:
    page = URL("https://github.com/ggml-org/llama.cpp/releases/download/b1/x")
    assert redirected(page, "https://storage.example/x?sig=a%2Fb", "x") == URL(
        "https://storage.example/x?sig=a%2Fb", encoded=True
    )
    assert redirected(page, "/other", "x") == URL("https://github.com/other")
    for location in (
        "http://storage.example/x",
        "//evil.example:80/../x\n",
        "file:///etc/passwd",
        "ftp://a/b",
    ):
        if location.startswith("//"):
            continue
        with pytest.raises(FetchError, match="sends on to"):
            redirected(page, location, "x")
    assert redirected(URL("http://127.0.0.1/x"), "http://127.0.0.1:1/y", "x").port == 1


def test_a_full_disk_is_told_before_the_first_byte(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk, server() as there:
        with pytest.raises(FetchError, match="are free") as caught:
            bring(there, disk / "engines")
        assert there.count("bytes") == 0
    assert "XDG_CACHE_HOME" in str(caught.value.hint)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with server() as there, pytest.raises(FetchError, match="cannot write") as caught:
        bring(there, tmp_path / "file/engines")
    assert caught.value.exit_code == 6


def test_a_kill_costs_at_most_what_was_on_its_way(tmp_path: Path) -> None:
    stuck = threading.Event()
    with server(bytes_fault(ReleaseFault(hang=stuck), 2)) as there:
        asset = asset_of(there)
        code = (
            f"{IMPORTS}\n"
            f"asset = ReleaseAsset(*{(asset.name, asset.bytes, asset.url, asset.sha256)!r})\n"
            f"asyncio.run(download(asset, Path({str(tmp_path)!r}), QUICK, lambda *_: None))"
        )
        child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        try:
            assert stuck.wait(30)
            (journal,) = _until_found(tmp_path, "*.journal")
            until(lambda: len(journal.read_text().splitlines()) == 3, within=20)  # two of three are synced
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait(20)
        before = there.bytes_sent
        assert bring(there, tmp_path).path.read_bytes() == CONTENT
        assert there.bytes_sent - before <= RANGE_BYTES


def _until_found(folder: Path, pattern: str) -> list[Path]:
    until(lambda: list(folder.glob(pattern)), within=20)
    return list(folder.glob(pattern))
