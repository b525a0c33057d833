"""Two real models are loaded by the real server; its own lines are within 1 % of the formulas."""

import subprocess
import threading
from pathlib import Path

import pytest

from qwenctl.launch.load_log import Buffers, parse_log
from qwenctl.plan.memory import MIB, Load, device_parts, host_part
from tests.fakes import real_models
from tests.fakes.rpc import worker
from tests.fakes.shaped_families import describe

LOADS = (Load(8192, "f16"), Load(8192, "q8_0"), Load(2048, "f16", 4), Load(2048, "f16", 4, unified=True))
LIMIT_S = 60


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return real_models.smollm2()


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_models.gemma3(tmp_path_factory.mktemp("gemma"))


def loaded(server: Path, model: Path, socket: Path, load: Load, rpc: str | None) -> Buffers:
    """Start the server, read its log until it listens, and stop it."""
    command = [
        *(str(server), "--model", str(model), "--host", str(socket), "-lv", "4", "--no-warmup"),
        *("-c", str(load.context_tokens * load.parallel), "-np", str(load.parallel)),
        *("-ctk", load.kv_type, "-ctv", load.kv_type),
        "--kv-unified" if load.unified else "--no-kv-unified",
        *(("--rpc", rpc) if rpc else ("--device", "none")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    deadline = threading.Timer(LIMIT_S, process.kill)
    deadline.start()
    heard = []
    try:
        for line in process.stdout:
            heard.append(line)
            if "listening on" in line and any("compute buffer size" in one for one in heard):
                break
    finally:
        deadline.cancel()
        process.kill()
        process.wait(timeout=LIMIT_S)
        process.stdout.close()
    assert any("listening on" in line for line in heard), "".join(heard[-20:])
    return parse_log("".join(heard))


@pytest.mark.parametrize("name", ["smollm2", "gemma"])
def test_a_real_load_on_a_cpu_is_within_one_percent(
    name: str, server_binary: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_within_one_percent(server_binary, request.getfixturevalue(name), tmp_path, LOADS[::3])


@pytest.mark.parametrize("name", ["smollm2", "gemma"])
def test_a_real_load_of_the_other_build_is_within_one_percent(
    name: str, built_engine: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_within_one_percent(built_engine, request.getfixturevalue(name), tmp_path, LOADS)


def is_within_one_percent(server: Path, model: Path, folder: Path, loads: tuple[Load, ...]) -> None:
    """On a CPU."""
    profile, quant = describe(model)
    for number, load in enumerate(loads):
        said = loaded(server, model, folder / f"{number}.sock", load, None)
        assert said.device_mib == 0
        host = host_part(profile, quant, load, ())
        assert host.total / MIB == pytest.approx(said.host_mib, rel=0.01), load


@pytest.mark.parametrize("name", ["smollm2", "gemma"])
def test_a_real_load_on_a_device_is_within_one_percent(
    name: str, built_tools: Path, built_engine: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: Path = request.getfixturevalue(name)
    profile, quant = describe(model)
    for number, load in enumerate(LOADS):
        with worker(built_tools) as address:
            said = loaded(built_engine, model, tmp_path / f"{number}.sock", load, address)
        (part,) = device_parts(profile, quant, load, ("rpc",), (1,))
        assert part.total / MIB == pytest.approx(said.device_mib, rel=0.01), load
        host = host_part(profile, quant, load, ("rpc",))
        assert host.total / MIB == pytest.approx(said.host_mib, rel=0.01), load
