"""A device that is away for a while is waited for; requests that come meanwhile are answered by it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.home import Home, until
from tests.fakes.rpc import worker

SOON = 60
NO_DEVICE = "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected"


@pytest.fixture
def switch(built_tools: Path, built_home: Home, built_engine: Path) -> Iterator[Path]:
    """A file: while it is there, the engine lists no device, and says why. Else it has an RPC worker."""
    if not (built_tools / "ggml-rpc-server").is_file():
        pytest.skip("llama.cpp was built without -DGGML_RPC=ON")
    away, program = built_home.path / "away", built_home.path / "llama-server"
    program.write_text(
        f"""#!/bin/sh
case "$*" in *--list-devices*)
  if [ -e {away} ]; then
    echo '{NO_DEVICE}' >&2
    printf 'Available devices:\\n  (none)\\n'
    exit 0
  fi ;;
esac
exec {built_engine} "$@"
"""
    )
    program.chmod(0o755)
    with worker(built_tools) as address:
        built_home.environment["QWENCTL_SERVER__RPC"] = f'["{address}"]'
        built_home.environment["QWENCTL_SERVER__BINARY"] = str(program)
        yield away


def test_a_daemon_whose_device_is_away_at_its_start_waits_for_it(built_home: Home, switch: Path) -> None:
    built_home.up("--ctx", "4096")
    assert built_home.run("down").code == 0
    switch.touch()
    ran = built_home.run("up", "--profile", "demo", "--ctx", "4096", "--port", str(built_home.port))
    assert ran.code == 5
    assert "which served before" in ran.err
    assert "qwenctl up --cpu" in ran.err
    assert NO_DEVICE.removeprefix("ggml_cuda_init: ") in ran.err, "the reason is the engine's own"
    assert "engine install" not in ran.err, "another engine would not help"
    again = built_home.run("up", "--timeout", "60")
    assert (again.code, "which served before" in again.err) == (5, True), again.err
    now = built_home.status()
    assert now["phase"] in ("backoff", "planning"), "it looks again every 10 s"
    assert not now["ready"]
    assert "which served before" in now["change"]["refused"]["message"]
    assert not built_home.servers(), "nothing is put on the processor in silence"
    answers: list[int] = []

    def ask() -> None:
        body = {"prompt": "a", "n_predict": 1}
        address = f"http://127.0.0.1:{built_home.port}/completion"
        answers.append(httpx.post(address, json=body, timeout=2 * SOON).status_code)

    client = threading.Thread(target=ask)
    client.start()
    switch.unlink()
    until(lambda: built_home.status()["ready"], SOON)
    client.join(SOON)
    assert answers == [200], "a request that came meanwhile is not lost"


def test_an_up_beside_a_server_offers_no_engine_for_a_device_that_is_away(
    built_home: Home, switch: Path
) -> None:
    built_home.up("--ctx", "4096")
    switch.touch()
    ran = built_home.run("up", "--ctx", "2048", "--timeout", "60")
    assert (ran.code, "which served before" in ran.err) == (5, True), ran.err
    assert "engine install" not in ran.err
    assert built_home.status()["ready"], "what serves goes on"


def test_the_processor_serves_on_purpose_while_the_device_is_away(built_home: Home, switch: Path) -> None:
    built_home.up("--ctx", "4096")
    assert built_home.run("down").code == 0
    switch.touch()
    built_home.up("--cpu")
    assert built_home.status()["ready"]
