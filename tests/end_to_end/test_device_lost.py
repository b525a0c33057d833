"""A device goes away: an RPC worker on loopback, which is a device to llama.cpp."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.home import Home, until
from tests.fakes.rpc import worker

SOON = 60


def ended(home: Home) -> dict[str, Any]:
    """How the last server ended, for as far as any did."""
    last: dict[str, Any] | None = home.status().get("last_ending")
    return last or {"cause": None}


def script(home: Home, program: Path) -> tuple[Path, Path]:
    """Write a script that starts the server; while its switch is there, it takes the device away."""
    switch, path = home.path / "gone", home.path / "llama-server"
    path.write_text(
        f"""#!/bin/sh
if [ -e {switch} ]; then
  for word do
    shift
    case "$word" in
      --device|--rpc) skip=1 ;;
      *) if [ -n "$skip" ]; then skip=; else set -- "$@" "$word"; fi ;;
    esac
  done
fi
exec {program} "$@"
"""
    )
    path.chmod(0o755)
    return path, switch


def test_a_server_that_falls_back_to_the_cpu_is_never_ready(
    built_home: Home, built_engine: Path, device: str
) -> None:
    del device
    program, switch = script(built_home, built_engine)
    built_home.environment["QWENCTL_SERVER__BINARY"] = str(program)
    built_home.up("--ctx", "4096")
    before = built_home.status()
    switch.touch()
    os.kill(before["pid"], 9)
    until(lambda: ended(built_home)["cause"] == "gpu_lost", SOON)
    gone = built_home.status()
    assert not gone["ready"]
    assert "nothing was loaded on RPC0" in ended(built_home)["summary"]
    assert not ended(built_home)["permanent"]
    assert gone["phase"] in ("backoff", "starting", "stopping")
    switch.unlink()
    until(lambda: built_home.status()["ready"], SOON)
    assert built_home.status()["plan"]["context_tokens"] == 4096, "a smaller plan is of no help"


def test_a_worker_that_goes_away_is_a_lost_device_until_it_is_back(
    built_home: Home, built_tools: Path
) -> None:
    if not (built_tools / "ggml-rpc-server").is_file():
        pytest.skip("llama.cpp was built without -DGGML_RPC=ON")
    with worker(built_tools) as address:
        built_home.environment["QWENCTL_SERVER__RPC"] = f'["{address}"]'
        built_home.up("--ctx", "4096")
    pid = built_home.status()["pid"]
    asked = (
        f"curl -s -m 5 http://127.0.0.1:{built_home.port}/completion "
        """-d '{{"prompt": "a", "n_predict": 1}}' || true"""
    )
    built_home.shell(asked)
    until(lambda: ended(built_home)["cause"] == "gpu_lost", SOON)
    assert not built_home.status()["ready"]
    assert built_home.status()["pid"] != pid
    port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        probe.settimeout(1)
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    with worker(built_tools, port):
        until(lambda: built_home.status()["ready"], SOON)
    assert built_home.status()["plan"]["context_tokens"] == 4096
