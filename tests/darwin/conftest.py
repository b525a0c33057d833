"""A Mac of its own for each test that asks for one."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MARK
from tests.darwin.mac import Mac

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]
"""Linux plays the Mac: epoll and pidfd stand for kqueue."""


@pytest.fixture
def mac(root: Path, server_binary: Path) -> Iterator[Mac]:
    """A Mac with 36 GB whose qwenctl may start the bundled engine."""
    yield from _fresh(root, server_binary)


@pytest.fixture
def bare_mac(root: Path) -> Iterator[Mac]:
    """A Mac for commands that start no server."""
    yield from _fresh(root)


def _fresh(root: Path, engine: Path | None = None) -> Iterator[Mac]:
    mac = Mac(Path(tempfile.mkdtemp(dir=root)), MARK, root, engine=engine)
    try:
        yield mac
    finally:
        mac.close()
