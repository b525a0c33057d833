"""A card that no engine here can use: nothing runs on the processor in silence. With a driver built here."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.home import Home, Ran, until
from tests.fakes.rpc import worker

SOURCE = Path(__file__).parents[1] / "hardware/fake_nvml.c"
COMPILER = shutil.which("cc")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a driver's library that shows two H200s."""
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    path = tmp_path_factory.mktemp("driver") / "libnvidia-ml.so.1"
    command = [COMPILER, "-shared", "-fPIC", "-w", f"-Wl,-soname,{path.name}", "-o", str(path), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return path.parent


@pytest.fixture
def with_card(home: Home, driver: Path) -> Home:
    """A home on a machine with two cards, where every engine is built for the processor."""
    home.environment |= {"FAKE_NVML": "ok", "PATH": "/usr/bin:/bin", "FAKE_DRIVER": str(driver)}
    return home


def run(home: Home, *arguments: str) -> Ran:
    """Run a command on the demo model where the loader finds the driver."""
    driver = home.environment["FAKE_DRIVER"]
    return home.run(*arguments, "--profile", "demo", LD_LIBRARY_PATH=driver)


def data(home: Home, *arguments: str) -> dict[str, Any]:
    """Run a command likewise; return the data of its envelope."""
    found: dict[str, Any] = json.loads(run(home, "--json", *arguments).out)
    return found["data"] if found["ok"] else found


def test_up_names_the_card_what_was_looked_at_and_both_ways_out(with_card: Home) -> None:
    ran = run(with_card, "up", "--port", str(with_card.port))
    assert ran.code == 5
    assert "cannot use 2 x NVIDIA H200: no llama-server here has a device on it" in ran.err
    assert "looked at bundled " in ran.err
    assert "qwenctl engine install" in ran.err
    assert "qwenctl up --cpu" in ran.err
    assert data(with_card, "up")["error"]["code"] == "no_server"
    assert not with_card.servers()


def test_the_processor_serves_on_purpose(with_card: Home) -> None:
    ran = run(with_card, "up", "--cpu", "--port", str(with_card.port))
    assert ran.code == 0, ran.err
    assert with_card.status()["ready"]
    assert with_card.json("settings")["data"]["hardware.gpu"]["value"] == "off"


def test_a_plan_is_made_for_the_card_and_says_that_it_is_only_a_plan(with_card: Home) -> None:
    ran = run(with_card, "plan")
    assert ran.code == 0, ran.err
    assert "no usable llama-server here, so this is a plan only" in ran.err
    planned = data(with_card, "plan")
    assert planned["engine"] is None
    assert [device["id"] for device in planned["memory"]["devices"]][:1] == ["CUDA0"]


def test_the_doctor_calls_it_a_problem(with_card: Home) -> None:
    found = json.loads(run(with_card, "--json", "doctor").out)["data"]["checks"]
    checks = {one["name"]: one for one in found}
    assert checks["binary"]["verdict"] == "problem"
    assert "NVIDIA H200" in checks["binary"]["finding"]
    assert "qwenctl engine install" in checks["binary"]["fix"]


def test_what_serves_without_the_card_says_so_and_goes_over_to_a_device_that_comes(
    built_home: Home, built_tools: Path, driver: Path
) -> None:
    """The device is an RPC worker, which a script hides at first; requests are answered all the time."""
    if not (built_tools / "ggml-rpc-server").is_file():
        pytest.skip("llama.cpp was built without -DGGML_RPC=ON")
    hidden, program = built_home.path / "hidden", built_home.path / "llama-server"
    program.write_text(
        f"""#!/bin/sh
if [ -e {hidden} ]; then
  for word do
    shift
    case "$word" in
      --rpc) skip=1 ;;
      *) if [ -n "$skip" ]; then skip=; else set -- "$@" "$word"; fi ;;
    esac
  done
fi
exec {built_tools / "llama-server"} "$@"
"""
    )
    program.chmod(0o755)
    hidden.touch()
    built_home.environment |= {"FAKE_NVML": "ok", "FAKE_DRIVER": str(driver)}
    built_home.environment["QWENCTL_SERVER__BINARY"] = str(program)
    with worker(built_tools) as address:
        built_home.environment["QWENCTL_SERVER__RPC"] = f'["{address}"]'
        ran = run(built_home, "up", "--ctx", "4096", "--port", str(built_home.port))
        assert ran.code == 0, ran.err
        now = built_home.status()
        assert [text for text in now["troubles"] if "NVIDIA H200" in text] != []
        first, asked, failed = now["pid"], threading.Event(), list[int]()

        def ask() -> None:
            while not asked.is_set():
                where = f"http://127.0.0.1:{built_home.port}/completion"
                answer = httpx.post(where, json={"prompt": "a", "n_predict": 4}, timeout=100)
                if answer.status_code != httpx.codes.OK:
                    failed.append(answer.status_code)

        client = threading.Thread(target=ask)
        client.start()
        hidden.unlink()
        until(lambda: built_home.status()["ready"] and built_home.status()["pid"] != first, 60)
        asked.set()
        client.join(100)
        assert failed == []
        assert built_home.status()["memory"]["actual_bytes"] > 0, "it is on the device"
