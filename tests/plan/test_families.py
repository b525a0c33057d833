"""The engine and the formulas agree on the shapes of some twenty families: a slice of the benchmark."""

from pathlib import Path

import pytest

from qwenctl.engine.fit_params import ask, in_engine_convention
from qwenctl.plan.memory import MIB, Load, device_parts, host_part
from tests.fakes import real_models
from tests.fakes.dry_run import server_holds
from tests.fakes.rpc import worker
from tests.fakes.shaped_families import MODELS, ShapedModel, describe, write_family

LOADS = (Load(8192, "f16"), Load(2048, "f16", 4), Load(8192, "q8_0", 4, unified=True))
ON_A_CPU = Load(4096, "q8_0", 4)
ABORTS = {"Phi-4 14B": "b11434 runs out of graph nodes with quantized caches in slots of their own"}


@pytest.fixture(scope="module")
def tools(built_tools: Path) -> Path:
    return built_tools


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.title)
def test_a_device_holds_what_the_formulas_say(tools: Path, tmp_path: Path, model: ShapedModel) -> None:
    """Windows, latent rows, states, experts, shared caches: own and shared caches of one and four slots."""
    if not (tools / "ggml-rpc-server").is_file():
        pytest.skip("llama.cpp was built without -DGGML_RPC=ON")
    path = tmp_path / "model.gguf"
    write_family(path, model, "Q4_K_M")
    profile, quant = describe(path)
    for load in LOADS:
        with worker(tools) as address:
            held = server_holds(tools, path, load, (address,))
        (part,) = device_parts(profile, quant, load, ("rpc",), (1,))
        assert part.total / MIB == pytest.approx(held["RPC0"], rel=0.01), load
        host = host_part(profile, quant, load, ("rpc",))
        logits = 4 * profile.architecture.vocab_size * load.parallel  # not counted before the load
        assert (host.total - logits) / MIB == pytest.approx(held["Host"], rel=0.01, abs=1), load


SPLIT = ("Llama 3.1 8B", "Gemma 3 12B", "gpt-oss 20B", "DeepSeek V2 Lite", "Nemotron Nano 9B v2", "LFM2 1.2B")


@pytest.mark.parametrize("title", SPLIT)
def test_each_of_two_devices_holds_what_the_formulas_say(tools: Path, tmp_path: Path, title: str) -> None:
    """Layers of unlike kinds and sizes are split where the engine splits them."""
    if not (tools / "ggml-rpc-server").is_file():
        pytest.skip("llama.cpp was built without -DGGML_RPC=ON")
    path = tmp_path / "model.gguf"
    write_family(path, next(model for model in MODELS if model.title == title), "Q4_K_M")
    profile, quant = describe(path)
    load = Load(16384, "f16")
    with worker(tools) as first, worker(tools) as second:
        held = server_holds(tools, path, load, (first, second))
    parts = device_parts(profile, quant, load, ("rpc", "rpc"), (1, 1))
    for index, part in enumerate(parts):
        assert part.total / MIB == pytest.approx(held[f"RPC{index}"], rel=0.01)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.title)
def test_a_cpu_holds_what_the_formulas_say(tools: Path, tmp_path: Path, model: ShapedModel) -> None:
    path = tmp_path / "model.gguf"
    write_family(path, model, "Q8_0")
    profile, quant = describe(path)
    load = Load(4096, "f16", 4) if model.title in ABORTS else ON_A_CPU
    (row,) = ask(tools / "llama-fit-params", path, load)
    ((_, predicted),) = in_engine_convention(profile, quant, load, ())
    assert predicted / MIB == pytest.approx(row.total_mib, rel=0.01)


def test_the_shape_of_a_real_file_is_the_shape_that_the_tests_write(tmp_path: Path) -> None:
    """SmolLM2 135M, from the package that carries it."""
    real = real_models.smollm2()
    write_family(tmp_path / "model.gguf", MODELS[0], "Q8_0")
    shaped = describe(tmp_path / "model.gguf")[0].architecture
    found = describe(real)[0].architecture
    ours = {"header_bytes", "source", "vocab_size"}
    assert found.model_dump(exclude=ours) == shaped.model_dump(exclude=ours)
