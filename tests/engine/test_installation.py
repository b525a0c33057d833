"""An installation is whole or not there, and what was in use stays, whatever happens on the way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qwenctl.engine.builds.installation import (
    EngineArchive,
    drop,
    install,
    put_back,
    superfluous,
    sweep,
    take,
)
from qwenctl.engine.builds.installed_engines import (
    ChosenEngine,
    InstalledEngine,
    chosen,
    installed,
    read_engine,
)
from qwenctl.engine.builds.store_lock import StoreBusyError, store_lock
from qwenctl.engine.builds.unpack import ArchiveError
from qwenctl.engine.smoke_test import SmokeResult
from qwenctl.engine.usability import Unusable
from qwenctl.errors import NoServerError, QwenctlError
from tests.fakes.disk import small_disk
from tests.fakes.engine_archive import engine_archive, runtime_archive

ROOT = Path(__file__).parents[2]
PASSED = SmokeResult(None)


def brought(folder: Path, name: str, content: bytes, *more: bytes, keep: bool = True) -> EngineArchive:
    paths = []
    for number, each in enumerate((content, *more)):
        path = folder / f"{name}-{number}.tar.gz"
        path.write_bytes(each)
        paths.append(path)
    digest = hashlib.sha256(content).hexdigest()
    return EngineArchive(name, name.partition("-")[0], "cpu", paths[0].name, tuple(paths), digest, keep=keep)


def put(root: Path, archive: EngineArchive, result: SmokeResult = PASSED) -> InstalledEngine:
    return install(root, archive, lambda _program: result, lambda _text: None)


def hidden(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith(".") and path.name != ".lock"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one engine that is in use."""
    root = tmp_path / "engines"
    put(root, brought(tmp_path, "b11400-cpu", engine_archive("b11400")))
    take(root, "b11400-cpu")
    return root


def assert_unharmed(root: Path) -> None:
    assert chosen(root) == ChosenEngine("b11400-cpu", None)
    assert [engine.name for engine in installed(root)] == ["b11400-cpu"]
    assert (root / "b11400-cpu/llama-server").is_file()
    assert hidden(root) == []


def test_an_engine_is_installed_and_is_not_in_use_until_it_is_taken(store: Path, tmp_path: Path) -> None:
    engine = put(store, brought(tmp_path, "b11500-cpu", engine_archive("b11500")))
    assert (engine.name, engine.server) == ("b11500-cpu", store / "b11500-cpu/llama-server")
    assert os.access(engine.server, os.X_OK)
    assert chosen(store) == ChosenEngine("b11400-cpu", None)
    assert take(store, "b11500-cpu") == ChosenEngine("b11400-cpu", None)
    assert chosen(store) == ChosenEngine("b11500-cpu", "b11400-cpu")
    assert take(store, "b11400-cpu") == ChosenEngine("b11500-cpu", "b11400-cpu")
    assert chosen(store) == ChosenEngine("b11400-cpu", "b11500-cpu")
    put_back(store, ChosenEngine("b11500-cpu", "b11400-cpu"))
    assert chosen(store).current == "b11500-cpu"


def test_the_runtime_libraries_lie_beside_the_program(store: Path, tmp_path: Path) -> None:
    archive = brought(
        tmp_path, "b11500-cuda-13.4", engine_archive("b11500"), runtime_archive("b11500", "cuda-13.4")
    )
    engine = put(store, archive)
    assert (engine.server.parent / "libcudart.so.13").read_bytes() == b"cuda"
    assert not (engine.folder / ".beside-0").exists()


def test_the_same_archive_is_not_unpacked_twice(store: Path, tmp_path: Path) -> None:
    archive = brought(tmp_path, "b11400-cpu", engine_archive("b11400"))
    assert (
        install(store, archive, lambda _program: pytest.fail("proved again"), lambda _text: None).name
        == "b11400-cpu"
    )


def test_another_archive_of_that_name_does_not_touch_the_one_in_use(store: Path, tmp_path: Path) -> None:
    before = (store / "b11400-cpu/build.json").read_bytes()
    again = brought(tmp_path, "b11400-cpu", engine_archive("b11400", filler=10))
    engine = put(store, again)
    assert engine.name == f"b11400-cpu-{again.sha256[:8]}"
    assert (store / "b11400-cpu/build.json").read_bytes() == before


def test_an_engine_that_does_not_work_here_leaves_nothing(store: Path, tmp_path: Path) -> None:
    archive = brought(tmp_path, "b11500-cpu", engine_archive("b11500"), keep=False)
    unusable = SmokeResult(Unusable("library_missing", "libcublas.so.13 is missing", "install it"))
    with pytest.raises(NoServerError, match=r"cannot use b11500-cpu: libcublas\.so\.13 is missing") as caught:
        put(store, archive, unusable)
    assert (caught.value.exit_code, caught.value.hint) == (5, "install it")
    assert_unharmed(store)
    assert not archive.files[0].exists(), "the download is of no use"


def test_a_harmful_archive_leaves_nothing_and_a_file_of_a_person_stays(store: Path, tmp_path: Path) -> None:
    archive = brought(tmp_path, "b11500-cpu", b"no archive")
    with pytest.raises(ArchiveError, match="cannot unpack"):
        put(store, archive)
    assert_unharmed(store)
    assert archive.files[0].exists()


def test_a_full_disk_leaves_what_was_there_and_keeps_the_download(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        root = disk / "engines"
        put(root, brought(tmp_path, "b11400-cpu", engine_archive("b11400")))
        take(root, "b11400-cpu")
        large = brought(tmp_path, "b11500-cpu", engine_archive("b11500", filler=4 << 20), keep=False)
        with pytest.raises(QwenctlError, match="are free") as caught:
            put(root, large)
        assert "XDG_DATA_HOME" in str(caught.value.hint)
        assert_unharmed(root)
        many = brought(tmp_path, "b11500-cpu", engine_archive("b11500", files=600), keep=False)
        with pytest.raises(QwenctlError, match="no space left"):  # each file takes a page, whatever is in it
            put(root, many)
        assert_unharmed(root)
        assert many.files[0].exists()


def test_a_folder_that_cannot_be_written_is_named(store: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("")
        root = blocked / "engines"  # root may write anywhere, but not below a file
    else:
        root = store
        store.chmod(0o500)
    try:
        with pytest.raises(QwenctlError, match="cannot write") as caught:
            put(root, brought(tmp_path, "b11500-cpu", engine_archive("b11500")))
    finally:
        store.chmod(0o700)
    assert "XDG_DATA_HOME" in str(caught.value.hint)
    assert_unharmed(store)


def test_two_installations_at_once_are_one_after_the_other(store: Path, tmp_path: Path) -> None:
    first = brought(tmp_path, "b11500-cpu", engine_archive("b11500"))
    second = brought(tmp_path, "b11510-cpu", engine_archive("b11510"))
    proving, proved = threading.Event(), threading.Event()

    def slowly(_program: Path) -> SmokeResult:
        proving.set()
        assert proved.wait(20)
        return PASSED

    thread = threading.Thread(target=lambda: install(store, first, slowly, lambda _text: None))
    thread.start()
    assert proving.wait(20)
    with pytest.raises(StoreBusyError, match=f"process {os.getpid()} does so now"):
        put(store, second)
    with pytest.raises(StoreBusyError):
        take(store, "b11400-cpu")
    proved.set()
    thread.join(20)
    assert put(store, second).name == "b11510-cpu"
    assert [engine.name for engine in installed(store)] == ["b11400-cpu", "b11500-cpu", "b11510-cpu"]


def test_the_lock_of_a_process_that_died_is_free(store: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from qwenctl.engine.builds.store_lock import store_lock\n"
        f"with store_lock(Path({str(store)!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    with store_lock(store):
        pass


def test_an_update_keeps_the_last_two(store: Path, tmp_path: Path) -> None:
    for tag in ("b11410", "b11420", "b11430"):
        put(store, brought(tmp_path, f"{tag}-cpu", engine_archive(tag)))
        take(store, f"{tag}-cpu")
    assert superfluous(store, frozenset()) == ("b11400-cpu", "b11410-cpu")
    assert superfluous(store, frozenset({"b11400-cpu"})) == ("b11410-cpu",)
    drop(store, ("b11410-cpu",))
    assert read_engine(store, "b11410-cpu") is None
    assert hidden(store) == []


def test_what_a_kill_left_is_swept_by_the_next_one(store: Path, tmp_path: Path) -> None:
    for name in (".new-b1-cpu", ".removed-b2-cpu"):
        (store / name / "deep").mkdir(parents=True)
    put(store, brought(tmp_path, "b11500-cpu", engine_archive("b11500")))
    assert hidden(store) == []
    sweep(store)
    assert [engine.name for engine in installed(store)] == ["b11400-cpu", "b11500-cpu"]


def killed_at(root: Path, archive: Path, last: int) -> int | None:
    """Install in a process that ends at its n-th change; return how many there are if it came to its end."""
    command = [
        sys.executable,
        "-m",
        "tests.engine.killed_install",
        str(root),
        str(archive),
        "b11500-cpu",
        str(last),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return int(done.stdout)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return None


def check_kills(store: Path, tmp_path: Path, points: range) -> None:
    archive = tmp_path / "b11500.tar.gz"
    archive.write_bytes(engine_archive("b11500"))
    for last in points:
        ended = killed_at(store, archive, last)
        state = chosen(store)
        assert state.current in ("b11400-cpu", "b11500-cpu"), f"killed at {last}"
        for engine in installed(store):
            whole = {
                "llama-server",
                "LICENSE",
                "libllama.so",
                "libllama.so.0",
                "libllama.so.0.9.1",
                "build.json",
            }
            assert {path.name for path in engine.folder.iterdir()} >= whole, f"killed at {last}"
        assert (store / "b11400-cpu/llama-server").is_file()
        assert json.loads((store / "chosen.json").read_text())["current"] == state.current
        if ended is not None:
            break
    assert killed_at(store, archive, 10_000) is not None
    assert chosen(store) == ChosenEngine("b11500-cpu", "b11400-cpu")
    assert hidden(store) == []


def test_killed_at_some_points_what_is_seen_is_whole_and_the_next_one_completes_it(
    store: Path, tmp_path: Path
) -> None:
    check_kills(store, tmp_path, range(2, 60, 12))


@pytest.mark.chaos
def test_killed_at_any_point_what_is_seen_is_whole(store: Path, tmp_path: Path) -> None:
    check_kills(store, tmp_path, range(200))
