"""Remember which plans ran out of memory on this machine, so that none is tried twice.

Kept in the state folder by machine, profile and binary: another of these begins anew.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Literal

from qwenctl.engine.ask import Engine
from qwenctl.files import read_json, write_json
from qwenctl.hardware.facts import Hardware
from qwenctl.plan.outcome import Plan, Refused
from qwenctl.supervise.exits import HOST_OUT_OF_MEMORY, MEMORY_BUSY

REFUSED = "refused.json"


def key(hardware: Hardware, profile: str, server: Engine | None) -> str:
    """Return what a refusal holds for."""
    machine = (
        hardware.ram_bytes,
        tuple((a.id, a.name, a.memory_bytes) for a in hardware.accelerators),
        profile,
        (str(server.path), server.version) if server else None,
    )
    return hashlib.sha256(repr(machine).encode()).hexdigest()[:16]


def refusal(plan: Plan, cause: str) -> Refused:
    """Return what is not to be tried again after ``plan`` ended by ``cause``."""
    places: dict[str, Literal["device", "host", "start"]] = {HOST_OUT_OF_MEMORY: "host", MEMORY_BUSY: "start"}
    where = places.get(cause, "device")
    return Refused(plan.quant, plan.context_tokens, plan.kv_type, plan.cache_ram_mib, where)


def remembered(folder: Path, wanted: str) -> frozenset[Refused]:
    """Return what was refused before; nothing where the file cannot be read."""
    kept = (read_json(folder / REFUSED) or {}).get(wanted)
    found = set()
    for entry in kept if isinstance(kept, list) else ():
        try:
            found.add(Refused(**entry))
        except TypeError:
            continue  # of another version
    return frozenset(found)


def remember(folder: Path, wanted: str, refused: Refused) -> None:
    """Keep a refusal.

    Raises:
        OSError: it cannot be written.
    """
    kept = read_json(folder / REFUSED) or {}
    all_of_it = remembered(folder, wanted) | {refused}
    entries = sorted((dataclasses.asdict(one) for one in all_of_it), key=json.dumps)
    write_json(folder / REFUSED, {**kept, wanted: entries})


def forget(folder: Path) -> None:
    """Try the best again."""
    (folder / REFUSED).unlink(missing_ok=True)
