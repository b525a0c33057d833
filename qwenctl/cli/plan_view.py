"""Draw a plan for a person: one bar per memory, and the quants that were not chosen."""

import io
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qwenctl.cli.output import colourful
from qwenctl.cli.status_text import engine_lines
from qwenctl.engine.fit_params import Verification
from qwenctl.hardware.facts import Hardware
from qwenctl.model.profile import Profile
from qwenctl.plan.memory import Memory
from qwenctl.plan.outcome import Considered, Plan
from qwenctl.plan.speed import Speed

GIB = 1024**3
PARTS = (
    ("weights", "█", "blue"),
    ("KV", "▓", "green"),
    ("state", "▒", "yellow"),
    ("compute", "▚", "magenta"),
    ("caches", "░", "cyan"),
    ("reserve", "-", "red"),
    ("free", "·", "dim"),
)
SOURCES = {
    "measured": "measured here: a load of this model and engine on this machine",
    "engine": "the engine's own answer, asked with the header of this file",
    "bound": "an upper bound: nobody has written formulas for this kind of model",
}
"""Where figures come from that are no formula's."""
BAR_CELLS = 56
SHOWN = 6


class MemoryBar(NamedTuple):
    """One memory, of a device or the RAM: the bytes of each part, in the order of ``PARTS``."""

    name: str
    capacity_bytes: int
    parts: tuple[int, ...]


def view(
    profile: Profile,
    plan: Plan,
    hardware: Hardware,
    checked: Verification | None,
    path: Path,
    engine: dict[str, object] | None,
) -> str:
    """Return the text of ``qwenctl plan``, in colour where stdout is a terminal. ``path``: the model file."""
    colour = colourful(sys.stdout)
    width = max(80, min(shutil.get_terminal_size((100, 24)).columns, 140))
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    console.print(_headline(profile, plan), soft_wrap=True)
    console.print(Text(f"file    {_file(plan, path)}"), soft_wrap=True)
    for word, said in engine_lines(engine):
        console.print(Text(f"{word:8}{said}"), soft_wrap=True)
    for bar in bars(plan.memory, hardware):
        console.print(_bar_text(bar), soft_wrap=True)
    console.print(_legend())
    if (source := SOURCES.get(plan.memory.source)) is not None:
        console.print(Text(f"memory  {source}"), soft_wrap=True)
    if plan.speed is not None:
        console.print(_speed(plan.speed), soft_wrap=True)
    console.print(_losers(plan.considered))
    if checked is not None:
        console.print(_verification(checked))
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    if plan.fix is not None:
        console.print(Text(f"to make it fit: {plan.fix}", style="bold"), soft_wrap=True)
    return written.getvalue().rstrip("\n")


def bars(memory: Memory, hardware: Hardware) -> list[MemoryBar]:
    """Return one bar for each device and one for the RAM. RAM that a device shares holds everything."""
    device_bars = [
        MemoryBar(
            device.id,
            device.capacity_bytes,
            (
                device.weights_bytes,
                device.kv_bytes,
                device.recurrent_bytes,
                device.compute_bytes + device.extras_bytes,
                0,
                device.capacity_bytes - device.budget_bytes,
                device.budget_bytes - device.need_bytes,
            ),
        )
        for device in memory.devices
    ]
    caches = memory.cache_bytes + memory.checkpoints_bytes
    apart = any(device.memory == "dedicated" for device in hardware.accelerators) and memory.devices
    on_device = (memory.weights_bytes, memory.kv_bytes, memory.recurrent_bytes, memory.compute_bytes)
    host_rest = memory.host_bytes - caches - (0 if memory.devices else sum(on_device))
    weights, kv, state, compute = (0, 0, 0, 0) if apart else on_device
    used = weights + kv + state + compute + host_rest + caches
    reserve = hardware.ram_bytes - memory.host_budget_bytes
    free = memory.host_budget_bytes - used
    ram = MemoryBar(
        "RAM", hardware.ram_bytes, (weights + host_rest, kv, state, compute, caches, reserve, free)
    )
    return [*device_bars, ram]


def _headline(profile: Profile, plan: Plan) -> Text:
    text = Text(f"{profile.title} {plan.quant}", style="bold")
    text.append(
        f", {_size(sum(file.bytes for file in plan.files))}; {plan.context_tokens:,} tokens of context, "
        f"KV {plan.kv_type}, cache-ram {plan.cache_ram_mib} MiB: {plan.verdict}",
        style="not bold",
    )
    return text


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.0f} MB"


def _file(plan: Plan, path: Path) -> str:
    """Return which file is served, and from where."""
    more = f" and {len(plan.files) - 1} more parts" if len(plan.files) > 1 else ""
    return f"{path}{more}" if plan.repo is None else f"{plan.repo}, {plan.files[0].name}{more}"


def _bar_text(bar: MemoryBar) -> Text:
    text = Text(f"{bar.name:7} ")
    cells_so_far = 0
    bytes_so_far = 0
    for (_, letter, style), part in zip(PARTS, bar.parts, strict=True):
        bytes_so_far += max(part, 0)
        cells = (
            round(BAR_CELLS * bytes_so_far / bar.capacity_bytes) - cells_so_far if bar.capacity_bytes else 0
        )
        text.append(letter * max(cells, 0), style=style)
        cells_so_far += max(cells, 0)
    used, free = sum(bar.parts[:5]), bar.parts[6]
    text.append(f" {used / GIB:.1f} of {bar.capacity_bytes / GIB:.1f} GiB, {free / GIB:.1f} free")
    return text


def _legend() -> Text:
    text = Text(" " * 8)
    for name, letter, style in PARTS:
        text.append(letter, style=style)
        text.append(f" {name}  ")
    return text


def _speed(speed: Speed) -> Text:
    parts = []
    if speed.low is not None and speed.high is not None:
        parts.append(f"{speed.low:g} to {speed.high:g} tokens/s ({speed.source})")
    if speed.bound is not None:
        parts.append(f"at most {speed.bound:.1f} by memory bandwidth, {speed.bandwidth_gb_s:g} GB/s")
    return Text("speed   " + "; ".join(parts) if parts else "speed   unknown for this machine")


def _losers(considered: tuple[Considered, ...]) -> Table:
    table = Table("quant", "context", "KV", "needs", "has", "verdict", "why", box=None, pad_edge=False)
    for one in considered[: SHOWN + 1]:
        table.add_row(
            one.quant,
            f"{one.context_tokens:,}",
            one.kv_type,
            f"{one.need_bytes / GIB:.1f}",
            f"{one.have_bytes / GIB:.1f} GiB",
            one.verdict,
            one.reason,
        )
    return table


def _verification(checked: Verification) -> Table:
    table = Table("device", "formula MiB", "engine MiB", "error", box=None, pad_edge=False)
    for row in checked.rows:
        table.add_row(
            row.device, f"{row.formula_mib:,.0f}", f"{row.engine_mib:,}", f"{row.error_percent:+.2f} %"
        )
    return table
