from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.fetcher import Fetcher
from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import FakeHub


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A GGUF of five and a half ranges of 1 MiB."""
    return write_gguf(tmp_path_factory.mktemp("model") / "m.gguf", bytes_=5_767_168).read_bytes()


@pytest.fixture
def hub(model: bytes) -> Iterator[FakeHub]:
    with FakeHub({"m.gguf": model}) as hub:
        yield hub


@pytest.fixture
def fetcher(hub: FakeHub, tmp_path: Path) -> Fetcher:
    return Fetcher(hub, tmp_path)
