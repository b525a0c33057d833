"""Remember what loads really took on this machine, so that the next plan is measured, not predicted.

It is kept in the state folder by machine, profile and engine, as what memory refused is.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from qwenctl.control.state_dir import LOADS
from qwenctl.deploy.oom_record import key, model_key
from qwenctl.engine.program import Engine, EngineIdentity
from qwenctl.files import read_json, write_json
from qwenctl.hardware.facts import Hardware
from qwenctl.model.profile import Profile
from qwenctl.plan.known import KnownLoad
from qwenctl.plan.memory import Part
from qwenctl.settings.types import Settings

MOST_LOADS = 16
"""Loads kept for one machine, profile and engine: the newest. Quants, contexts and KV types are few."""
MOST_KEYS = 64
"""Machines, profiles and engines that are kept: the newest."""


def load_key(
    hardware: Hardware, profile: Profile, settings: Settings, engine: Engine | EngineIdentity | None
) -> str:
    """Return what a measured load holds for: options of one's own change what a load takes."""
    model = model_key(profile, settings.model.path)
    return key(hardware, " ".join((model, *settings.server.extra_args)), engine)


def remembered_loads(folder: Path, wanted: str) -> tuple[KnownLoad, ...]:
    """Return the loads that were measured before; none where the file cannot be read."""
    return _loads(read_json(folder / LOADS) or {}, wanted)


def remember_load(folder: Path, wanted: str, load: KnownLoad) -> None:
    """Keep a load; it replaces an older one of the same quant, context, KV type and slots.

    Raises:
        OSError: it cannot be written.
    """
    kept = read_json(folder / LOADS) or {}
    before = _loads(kept, wanted)
    if load in before:
        return
    others = [one for one in before if _same(one) != _same(load)]
    newest = [dataclasses.asdict(one) for one in (*others, load)][-MOST_LOADS:]
    rest = {name: value for name, value in kept.items() if name != wanted}
    write_json(folder / LOADS, dict([*rest.items(), (wanted, newest)][-MOST_KEYS:]))


def _loads(kept: Mapping[str, object], wanted: str) -> tuple[KnownLoad, ...]:
    entries = kept.get(wanted)
    return tuple(load for entry in (entries if isinstance(entries, list) else ()) if (load := _read(entry)))


def _same(load: KnownLoad) -> tuple[str, int, str, int, int]:
    return (load.quant, load.context_tokens, load.kv_type, load.parallel, len(load.parts))


def _read(entry: object) -> KnownLoad | None:
    """Return a kept load, None for one of another version or a damaged one."""
    try:
        fields = dict(entry)  # type: ignore[call-overload]  # anything may stand in a file
        parts = tuple(Part(**part) for part in fields.pop("parts"))
        load = KnownLoad(**fields | {"parts": parts, "host": Part(**fields.pop("host"))})
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    numbers = [
        getattr(part, field.name) for part in (*parts, load.host) for field in dataclasses.fields(Part)
    ]
    numbers += [load.context_tokens, load.parallel]
    plain = all(
        isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers
    )
    return load if plain and load.source == "measured" else None
