"""Ask the engine itself how much memory a plan takes: ``llama-fit-params`` on a header without weights.

The file may be sparse: the first megabytes of a GGUF, extended to its real size, are enough, so this works
before any download. The formula's figures are converted to the way the engine counts, then compared. What
the engine does not count is listed separately.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from qwenctl.engine.environment import environment
from qwenctl.engine.fit_table import FitRow, error_percent, parse_fit
from qwenctl.errors import LaunchError
from qwenctl.hardware.facts import Accelerator
from qwenctl.model.profile import Profile, Quant
from qwenctl.plan.budget import context_bytes
from qwenctl.plan.memory import (
    MIB,
    Load,
    checkpoint_bytes,
    device_parts,
    host_part,
    logits_bytes,
    vision_bytes,
)
from qwenctl.plan.memory.compute import COPIES, mask_bytes, rotation_bytes
from qwenctl.plan.memory.weights import mapped_bytes
from qwenctl.plan.outcome import Plan

TOOL = "llama-fit-params"
COUNTED_TWICE = frozenset({"gemma3n", "gemma4"})
"""Families of which a dry run on a CPU counts the embedding twice: src/models makes the output tensor first.
A load maps the file, so it holds the embedding once."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Bytes that no dry run counts. Source: llama.cpp, common/fit.cpp: host buffer types and devices."""

    checkpoints_bytes: int
    cache_ram_bytes: int
    device_context_bytes: int
    vision_bytes: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One device, or the host: the formula's figure beside the engine's. MiB, as the engine counts."""

    device: str
    formula_mib: float
    engine_mib: int

    @property
    def error_percent(self) -> float:
        """Error of the formula in percent. Above 0: it predicted too much."""
        return error_percent(self.formula_mib, self.engine_mib)


@dataclass(frozen=True, slots=True)
class Verification:
    """The engine's figures for a plan, and the memory that must be added to them."""

    rows: tuple[Compared, ...]
    forgotten: Forgotten

    @property
    def worst_percent(self) -> float:
        """The largest error of the device total, or of the host's where there is no device."""
        devices = [row for row in self.rows if row.device != "Host"] or list(self.rows)
        formula = sum(row.formula_mib for row in devices)
        return abs(error_percent(formula, sum(row.engine_mib for row in devices)))


def tool_beside(server: Path) -> Path | None:
    """Return the ``llama-fit-params`` that came with a llama-server, if there is one."""
    tool = server.resolve().parent / TOOL
    return tool if tool.is_file() else None


def extend(header: Path, size_bytes: int) -> None:
    """Extend a file that holds a GGUF's header to the size of the real file. The rest is a hole.

    Raises:
        LaunchError: the file cannot be extended.
    """
    try:
        with header.open("r+b") as file:
            file.truncate(size_bytes)
    except OSError as error:
        raise LaunchError(f"cannot extend {header} to {size_bytes} bytes: {error.strerror}") from error


def ask(
    tool: Path, model: Path, load: Load, *, rpc: tuple[str, ...] = (), timeout_s: float = 60
) -> tuple[FitRow, ...]:
    """Return the memory of each device and of the host, as the engine counts it.

    Weight repacking is off: the dry run would leave repacked weights out of the host's figure. The tool knows
    no unified cache: each slot has its own.

    Raises:
        LaunchError: the tool fails, takes longer than ``timeout_s``, or prints no table.
    """
    command = [
        str(tool),
        *("--model", str(model)),
        *("--ctx-size", str(load.context_tokens * load.parallel)),
        *("--parallel", str(load.parallel)),
        *("--cache-type-k", load.kv_type),
        *("--cache-type-v", load.kv_type),
        *("--fit-print", "on"),
        "--no-repack",
        *(("--rpc", ",".join(rpc)) if rpc else ()),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=environment(), check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"cannot ask {tool}: {error}") from error
    rows = parse_fit(done.stdout)
    if done.returncode != 0 or not rows:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise LaunchError(f"cannot ask {tool} about {model}: exit status {done.returncode}: {last}")
    return rows


def verify(
    rows: tuple[FitRow, ...],
    plan: Plan,
    profile: Profile,
    quant: Quant,
    accelerators: tuple[Accelerator, ...],
    load: Load,
) -> Verification:
    """Set the engine's rows beside the formula's. ``accelerators`` are the plan's, in llama.cpp's order."""
    predicted = in_engine_convention(profile, quant, load, accelerators)
    found = {row.device: row.total_mib for row in rows}
    compared = tuple(
        Compared(device, bytes_ / MIB, found[device]) for device, bytes_ in predicted if device in found
    )
    return Verification(compared, forgotten(plan, profile, load, accelerators))


def in_engine_convention(
    profile: Profile, quant: Quant, load: Load, accelerators: tuple[Accelerator, ...]
) -> tuple[tuple[str, int], ...]:
    """Return what the formulas predict that ``llama-fit-params`` prints, by device, the host last.

    The tool counts logits for a whole batch on the device that holds the output layer, and no logits buffer.
    """
    model = profile.architecture
    backends = tuple(accelerator.backend for accelerator in accelerators)
    capacities = tuple(accelerator.usable_bytes or 1 for accelerator in accelerators)
    copies = 1 if len(accelerators) <= 1 else COPIES
    inputs = copies * mask_bytes(model, load) + rotation_bytes(model, load)
    mapped = mapped_bytes(model, quant, backends)  # the dry run maps nothing
    predicted = []
    if accelerators:
        for accelerator, part in zip(
            accelerators, device_parts(profile, quant, load, backends, capacities), strict=True
        ):
            compute = part.compute
            if accelerator is accelerators[-1]:
                compute = max(compute, inputs + logits_bytes(model, load))
            predicted.append((accelerator.id, part.total - mapped - part.extras - part.compute + compute))
    host = host_part(profile, quant, load, backends)
    compute = host.compute - 4 * model.vocab_size * load.parallel
    if not accelerators:
        compute = max(compute, inputs + logits_bytes(model, load) + 4 * model.embedding_length * load.batch)
    weights = quant.token_embd_bytes + quant.other_input_bytes if accelerators else host.weights
    if not accelerators and model.tied_embeddings and model.name in COUNTED_TWICE:
        weights += quant.token_embd_bytes
    predicted.append(("Host", weights + host.kv + host.recurrent + compute))
    return tuple(predicted)


def forgotten(plan: Plan, profile: Profile, load: Load, accelerators: tuple[Accelerator, ...]) -> Forgotten:
    """Return the memory that the plan needs and the engine does not count."""
    return Forgotten(
        checkpoints_bytes=plan.checkpoints * plan.parallel * checkpoint_bytes(profile.architecture, load),
        cache_ram_bytes=plan.cache_ram_mib * MIB,
        device_context_bytes=sum(context_bytes(each.backend) for each in accelerators),
        vision_bytes=vision_bytes(profile, load),
    )
