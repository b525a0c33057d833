"""The engine is asked about files of the real models' shapes; formula and engine agree."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from qwenctl.engine.fit_params import ask, extend, in_engine_convention, tool_beside, verify
from qwenctl.errors import LaunchError
from qwenctl.hardware.facts import Accelerator
from qwenctl.model.profile import Profile, Quant
from qwenctl.plan.memory import MIB, Load
from qwenctl.plan.planner import Plan, plan
from qwenctl.settings.types import ContextSettings, Settings
from tests.fakes.machines import GIB, made_up, profile
from tests.fakes.rpc import worker
from tests.fakes.shaped import header_bytes, shaped_quant, types_of, write_shaped


@dataclass(frozen=True, slots=True)
class Shaped:
    """A sparse file of a model's shape and the profile and quant that describe it."""

    profile: Profile
    quant: Quant
    path: Path


@pytest.fixture(scope="module")
def tools(built_tools: Path) -> Path:
    """The folder of llama.cpp's programs."""
    return built_tools


def shaped(tools: Path, folder: Path, name: str, quant_name: str) -> Shaped:
    one = profile(name)
    plain = folder / f"{name}.gguf"
    write_shaped(plain, one.architecture, lambda _: "BF16", tied=one.architecture.tied_embeddings)
    types = types_of(tools / "llama-quantize", plain, quant_name)
    path = folder / f"{name}-{quant_name}.gguf"
    quant = shaped_quant(path, one.architecture, types, quant_name)
    header = header_bytes(one.architecture, types, quant)
    model = one.architecture.model_copy(update={"header_bytes": header})
    return Shaped(one.model_copy(update={"architecture": model, "quants": (quant,)}), quant, path)


@pytest.fixture(scope="module")
def big(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Shaped:
    return shaped(tools, tmp_path_factory.mktemp("shaped"), "qwen3.6-27b", "Q4_K_M")


@pytest.fixture(scope="module")
def small(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Shaped:
    return shaped(tools, tmp_path_factory.mktemp("shaped"), "qwen3.5-4b", "Q8_0")


@pytest.fixture
def devices(tools: Path) -> Iterator[tuple[str, ...]]:
    if not (tools / "ggml-rpc-server").is_file():
        pytest.skip("llama.cpp was built without -DGGML_RPC=ON")
    with ExitStack() as stack:
        yield tuple(stack.enter_context(worker(tools)) for _ in range(2))


def rpc(count: int) -> tuple[Accelerator, ...]:
    return tuple(
        Accelerator(f"RPC{index}", "worker", "rpc", "dedicated", GIB, GIB, None) for index in range(count)
    )


def test_a_shaped_file_takes_no_disk(big: Shaped) -> None:
    assert big.path.stat().st_size > 16e9
    assert big.path.stat().st_blocks * 512 < 1e6


@pytest.mark.parametrize(("tokens", "kv_type"), [(8192, "f16"), (65536, "f16"), (65536, "q8_0")])
def test_formula_and_engine_agree_on_a_cpu(tools: Path, big: Shaped, tokens: int, kv_type: str) -> None:
    load = Load(tokens, kv_type)
    (row,) = ask(tools / "llama-fit-params", big.path, load)
    ((device, predicted),) = in_engine_convention(big.profile, big.quant, load, ())
    assert row.device == device == "Host"
    assert predicted / MIB == pytest.approx(row.total_mib, rel=0.003)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_formula_and_engine_agree_on_a_device(
    tools: Path, big: Shaped, small: Shaped, devices: tuple[str, ...], kv_type: str
) -> None:
    for one in (big, small):
        load = Load(32768, kv_type)
        rows = ask(tools / "llama-fit-params", one.path, load, rpc=devices[:1])
        predicted = dict(in_engine_convention(one.profile, one.quant, load, rpc(1)))
        for row in rows:
            assert predicted[row.device] / MIB == pytest.approx(row.total_mib, rel=0.01, abs=2)


def test_formula_and_engine_agree_on_two_devices(tools: Path, big: Shaped, devices: tuple[str, ...]) -> None:
    load = Load(65536, "f16")
    rows = ask(tools / "llama-fit-params", big.path, load, rpc=devices)
    predicted = dict(in_engine_convention(big.profile, big.quant, load, rpc(2)))
    assert {row.device for row in rows} == {"RPC0", "RPC1", "Host"}
    for row in rows:
        assert predicted[row.device] / MIB == pytest.approx(row.total_mib, rel=0.01)


def test_a_plan_is_verified_before_any_download(tools: Path, big: Shaped, devices: tuple[str, ...]) -> None:
    hardware = replace(made_up(ram_bytes=64 * GIB), accelerators=rpc(1))
    hardware = replace(
        hardware, accelerators=(replace(rpc(1)[0], memory_bytes=24 * GIB, usable_bytes=24 * GIB),)
    )
    rows = tuple(row.model_copy(update={"quant": "Q4_K_M"}) for row in big.profile.rows)
    chosen = plan(hardware, big.profile.model_copy(update={"rows": rows}), Settings())
    assert isinstance(chosen, Plan)
    load = Load(chosen.context_tokens, chosen.kv_type)
    answer = ask(tools / "llama-fit-params", big.path, load, rpc=devices[:1])
    verification = verify(answer, chosen, big.profile, big.quant, hardware.accelerators, load)
    assert [row.device for row in verification.rows] == ["RPC0", "Host"]
    assert verification.worst_percent < 1
    assert verification.forgotten.cache_ram_bytes == 4096 * MIB
    assert verification.forgotten.checkpoints_bytes == 2 * 156_893_184
    assert verification.forgotten.device_context_bytes == 330 * MIB


def test_a_header_alone_is_enough_once_extended(tools: Path, big: Shaped, tmp_path: Path) -> None:
    start = tmp_path / "start.gguf"
    with big.path.open("rb") as file:
        start.write_bytes(file.read(1 << 20))
    with pytest.raises(LaunchError, match="cannot ask"):
        ask(tools / "llama-fit-params", start, Load(8192, "f16"))
    extend(start, big.path.stat().st_size)
    load = Load(8192, "f16")
    assert ask(tools / "llama-fit-params", start, load) == ask(tools / "llama-fit-params", big.path, load)


def test_a_file_that_is_no_model_is_named(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"no model")
    with pytest.raises(LaunchError, match=r"x\.gguf: exit status"):
        ask(tools / "llama-fit-params", tmp_path / "x.gguf", Load(8192, "f16"))


def test_a_missing_tool_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="cannot ask"):
        ask(tmp_path / "absent", tmp_path / "x.gguf", Load(8192, "f16"))


def test_a_file_that_cannot_be_extended_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="cannot extend"):
        extend(tmp_path / "absent.gguf", 1)


def test_the_tool_lies_beside_the_server(tools: Path, tmp_path: Path) -> None:
    assert tool_beside(tools / "llama-server") == (tools / "llama-fit-params").resolve()
    assert tool_beside(tmp_path / "llama-server") is None


def test_the_demo_plans_to_what_its_file_takes() -> None:
    """Captured: the demo-shaped file on a CPU, 8,192 tokens: 5.30 model, 4 KV, 0.21 state, 13.52 compute."""
    demo = profile("demo")
    chosen = plan(made_up(ram_bytes=8 * GIB), demo, Settings(context=ContextSettings(tokens=8192)))
    assert isinstance(chosen, Plan)
    memory = chosen.memory
    assert memory.weights_bytes / MIB == pytest.approx(5.30, abs=0.02)
    assert memory.kv_bytes / MIB == 4
    assert memory.recurrent_bytes / MIB == pytest.approx(0.21, abs=0.01)
    assert memory.compute_bytes / MIB == pytest.approx(13.52, abs=0.05)
