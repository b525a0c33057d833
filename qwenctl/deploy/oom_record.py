"""Remember how much memory ran out on this machine, so that no plan needs as much again.

It is kept in the state folder by machine, profile and engine: for another of these nothing is remembered.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from qwenctl.engine.program import Engine, EngineIdentity
from qwenctl.files import read_json, write_json
from qwenctl.hardware.facts import Hardware
from qwenctl.model.profile import Profile
from qwenctl.plan.outcome import MemoryPlace, MemoryRefusal, Plan, needed_bytes
from qwenctl.supervise.exits import HOST_OUT_OF_MEMORY, MEMORY_BUSY

REFUSED = "refused.json"


def model_key(profile: Profile, path: str | None) -> str:
    """Return what tells one model from another: two files may have one name, and one file other bytes."""
    if not profile.made:
        return profile.name
    return f"{path or profile.hub}:{profile.name}:{sum(quant.bytes for quant in profile.quants)}"


def key(hardware: Hardware, model: str, engine: Engine | EngineIdentity | None) -> str:
    """Return what a refusal holds for."""
    machine = (
        hardware.ram_bytes,
        tuple((a.id, a.name, a.memory_bytes) for a in hardware.accelerators),
        model,
        (str(engine.path), engine.version) if engine else None,
    )
    return hashlib.sha256(repr(machine).encode()).hexdigest()[:16]


def refusal(plan: Plan, cause: str) -> MemoryRefusal:
    """Return what is not to be tried again after ``plan`` ended by ``cause``: the bytes, and where."""
    places: dict[str, MemoryPlace] = {HOST_OUT_OF_MEMORY: "host", MEMORY_BUSY: "start"}
    place = places.get(cause, "device" if plan.devices else "host")
    name = f"{plan.quant} at {plan.context_tokens:,} tokens, {plan.kv_type}"
    return MemoryRefusal(place, needed_bytes(plan.memory, place), name)


def remembered(folder: Path, wanted: str) -> frozenset[MemoryRefusal]:
    """Return what was refused before; nothing where the file cannot be read."""
    kept = (read_json(folder / REFUSED) or {}).get(wanted)
    found = set()
    for entry in kept if isinstance(kept, list) else ():
        try:
            found.add(MemoryRefusal(**entry))
        except TypeError:
            continue  # of another version
    return frozenset(found)


def remember(folder: Path, wanted: str, refused: MemoryRefusal) -> None:
    """Keep a refusal.

    Raises:
        OSError: it cannot be written.
    """
    kept = read_json(folder / REFUSED) or {}
    all_of_it = remembered(folder, wanted) | {refused}
    entries = sorted((dataclasses.asdict(one) for one in all_of_it), key=json.dumps)
    write_json(folder / REFUSED, {**kept, wanted: entries})
