"""Machines to plan for: the snapshots in tests/machines, and made-up ones."""

from pathlib import Path

from pydantic import TypeAdapter

from qwenctl.hardware.facts import Accelerator, Backend, Cpu, Hardware, MemoryKind
from qwenctl.model.profile import Profile
from qwenctl.model.toml import read_profile

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "profiles"
MACHINES = ROOT / "tests" / "machines"
GIB = 1024**3


def machine(name: str) -> Hardware:
    return TypeAdapter(Hardware).validate_json((MACHINES / f"{name}.json").read_bytes())


def profile(name: str) -> Profile:
    return read_profile(PROFILES / f"{name}.toml")


def made_up(
    *,
    ram_bytes: int,
    cards: tuple[int, ...] = (),
    backend: Backend = "cuda",
    memory: MemoryKind = "dedicated",
) -> Hardware:
    """Return a machine with accelerators of these usable sizes."""
    accelerators = tuple(
        Accelerator(f"GPU{index}", "made up", backend, memory, size, size, None)
        for index, size in enumerate(cards)
    )
    cpu = Cpu(None, 8, None, 16)
    return Hardware("linux", "x86_64", None, cpu, ram_bytes, accelerators)
