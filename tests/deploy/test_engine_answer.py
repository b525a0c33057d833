"""A family without formulas: the engine is asked, else the plan says that it is a bound."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from qwenctl.deploy import pipeline
from qwenctl.deploy.engine_answer import known_load
from qwenctl.deploy.exact_plan import decide
from qwenctl.deploy.types import PlanRequest
from qwenctl.engine.fit_table import FitRow
from qwenctl.model.architecture import architecture_of
from qwenctl.model.gguf_header import read_header
from qwenctl.model.layers import is_known
from qwenctl.plan.memory import MIB, Load, Part

LOAD = Load(4096, "f16")
WIDE, DEEP, LAYERS, ROWS = 256, 512, 4, 1024
UNKNOWN = "llada"  # known to the engine; a diffusion model, so it has no KV cache


def write(path: Path) -> Path:
    """Write a tiny model of a family without formulas."""
    writer = gguf.GGUFWriter(path, UNKNOWN)
    writer.add_block_count(LAYERS)
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDE)
    writer.add_feed_forward_length(DEEP)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(ROWS)
    writer.add_string("tokenizer.ggml.model", "none")
    shapes: dict[str, tuple[int, ...]] = {"attn_norm": (WIDE,), "ffn_norm": (WIDE,)}
    shapes |= {f"attn_{name}": (WIDE, WIDE) for name in ("q", "k", "v", "output")}
    shapes |= {"ffn_gate": (DEEP, WIDE), "ffn_up": (DEEP, WIDE), "ffn_down": (WIDE, DEEP)}
    blocks = {
        f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in shapes.items()
    }
    whole: dict[str, tuple[int, ...]] = {"token_embd.weight": (ROWS, WIDE), "output.weight": (ROWS, WIDE)}
    whole |= {"output_norm.weight": (WIDE,)}
    for name, shape in (whole | blocks).items():
        writer.add_tensor(name, np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_engines_rows_are_a_known_load_of_these_devices() -> None:
    rows = (FitRow("CUDA0", 10, 20, 30), FitRow("Host", 1, 0, 2))
    found = known_load(rows, ("CUDA0",), "Q4_0", LOAD)
    assert found is not None
    assert found.parts == (Part(10 * MIB, 20 * MIB, 0, 30 * MIB),)
    assert found.host == Part(MIB, 0, 0, 2 * MIB)
    assert (found.source, found.quant, found.context_tokens) == ("engine", "Q4_0", 4096)


@pytest.mark.parametrize("ids", [(), ("CUDA1",), ("CUDA0", "CUDA1")])
def test_rows_of_other_devices_tell_nothing(ids: tuple[str, ...]) -> None:
    assert known_load((FitRow("CUDA0", 1, 1, 1), FitRow("Host", 1, 1, 1)), ids, "Q4_0", LOAD) is None
    assert known_load((FitRow("CUDA0", 1, 1, 1),), ("CUDA0",), "Q4_0", LOAD) is None


def test_the_engine_is_asked_about_a_family_without_formulas(built_engine: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf")
    with path.open("rb") as file:
        assert not is_known(architecture_of(read_header(file.read)))
    flags = {"model": {"path": str(path)}, "server": {"binary": str(built_engine)}}
    resolved = pipeline.resolve(PlanRequest(tmp_path, flags, overrides={}))
    surveyed = pipeline.survey(resolved)
    _, chosen = decide(resolved, surveyed)
    assert chosen.memory.source == "engine"
    assert not any("bound" in warning for warning in chosen.warnings)
    alone = pipeline.survey(resolved, Path(__file__).parents[1] / "machines" / "rtx4090-24gb.json")
    _, bound = decide(resolved, alone)
    assert bound.memory.source == "bound"
    assert any("upper bound" in warning for warning in bound.warnings)
