"""What is offered of several releases, and what is newer."""

from pathlib import Path

import pytest

from qwenctl.engine.builds.engine_host import host_of
from qwenctl.engine.builds.install_release import (
    EngineSource,
    InstallProgress,
    StoppedError,
    find_offer,
    install_offer,
    is_newer,
)
from qwenctl.errors import FetchError, NoServerError
from tests.engine.machine_table import MACHINES
from tests.engine.test_release_download import QUICK
from tests.fakes.engine_archive import engine_archive
from tests.fakes.release_server import ReleaseServer

CUDA = ("llama-{}-bin-ubuntu-cuda-13.4-x64.tar.gz", "cudart-llama-{}-bin-ubuntu-cuda-13.4-x64.tar.gz")
OTHERS = ("llama-{}-bin-ubuntu-vulkan-x64.tar.gz", "llama-{}-bin-ubuntu-x64.tar.gz")


def source(there: ReleaseServer, folder: Path, *, offline: bool = False) -> EngineSource:
    return EngineSource(there.base, folder / "engines", folder / "cache", offline, QUICK)


def files(tag: str, *names: str) -> dict[str, bytes]:
    return {name.format(tag): b"x" for name in names}


def test_a_release_whose_files_are_still_coming_gives_way_to_the_one_before(tmp_path: Path) -> None:
    """GitHub shows a release while its files are uploaded one after the other."""
    host = host_of(MACHINES["RTX 4090, driver 580"])
    releases = {
        "v0.6.0": {"nightly-tag.txt": b"b11500"},
        "b11520": files("b11520", *OTHERS),
        "b11510": files("b11510", CUDA[0], *OTHERS),
        "b11500": files("b11500", *CUDA, *OTHERS),
    }
    with ReleaseServer(releases) as there:
        assert find_offer(source(there, tmp_path), host).build.name == "b11500-cuda-13.4"
        assert find_offer(source(there, tmp_path), host, backend="vulkan").build.name == "b11520-vulkan"
        assert find_offer(source(there, tmp_path), host, version="v0.6.0").build.tag == "b11500"
        assert find_offer(source(there, tmp_path), host).text == "llama.cpp b11500 for cuda-13.4 (0 MB)"
        none = find_offer(source(there, tmp_path), host_of(MACHINES["Alpine"]))
        with pytest.raises(NoServerError, match=r"a build of llama\.cpp b11520: no build runs with musl"):
            _ = none.build


def test_releases_without_files_are_an_error(tmp_path: Path) -> None:
    releases = {"v0.6.0": {"nightly-tag.txt": b"b1"}, "b1": files("b1", "llama-{}-bin-win-cpu-x64.zip")}
    with ReleaseServer(releases) as there, pytest.raises(FetchError, match="has no files for Linux or macOS"):
        find_offer(source(there, tmp_path), host_of(MACHINES["Alpine"]))


def test_a_wrong_archive_of_the_runtime_leaves_nothing(tmp_path: Path) -> None:
    releases = {"b11500": files("b11500", *CUDA)}
    with ReleaseServer(releases, wrong_digest=CUDA[1].format("b11500")) as there:
        offer = find_offer(source(there, tmp_path), host_of(MACHINES["RTX 4090, driver 580"]))
        with pytest.raises(FetchError, match="cannot verify cudart-llama-b11500"):
            install_offer(source(there, tmp_path), offer, InstallProgress())
    assert not (tmp_path / "engines").exists()


def test_an_installation_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    name = "llama-b11500-bin-ubuntu-x64.tar.gz"  # for that machine, whatever this one is
    with ReleaseServer({"b11500": {name: engine_archive("b11500")}}) as there:
        offer = find_offer(source(there, tmp_path), host_of(MACHINES["no GPU (tests/machines)"]))
        with pytest.raises(StoppedError, match="it was stopped"):
            install_offer(source(there, tmp_path), offer, InstallProgress(stopped=lambda: True))
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    ("tag", "than", "newer"),
    [
        ("b11500", "b11499", True),
        ("b11500", "b9999", True),
        ("b11500", "b11500", False),
        ("b11499", "b11500", False),
        ("v0.6.0", "b11500", True),
        ("b11500", "file", True),
        ("file", "file", False),
    ],
)
def test_which_build_is_newer(tag: str, than: str, *, newer: bool) -> None:
    assert is_newer(tag, than) == newer
