"""A device that is no CPU, for the tests that need one: an RPC worker on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.home import Home
from tests.fakes.rpc import worker


@pytest.fixture
def device(built_tools: Path, built_home: Home) -> Iterator[str]:
    """An RPC worker that this home's settings name."""
    if not (built_tools / "ggml-rpc-server").is_file():
        pytest.skip("llama.cpp was built without -DGGML_RPC=ON")
    with worker(built_tools) as address:
        built_home.environment["QWENCTL_SERVER__RPC"] = f'["{address}"]'
        yield address
