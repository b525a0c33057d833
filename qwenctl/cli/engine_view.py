"""What ``qwenctl engine list`` shows: the engines of this machine, and the verdicts on a release's builds."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qwenctl.cli.engine_change import data_of, in_force, short_reason
from qwenctl.cli.output import Result, Session
from qwenctl.deploy.this_machine import engine_and_machine
from qwenctl.deploy.types import ResolvedSettings
from qwenctl.engine.builds.build_choice import RankedBuild
from qwenctl.engine.builds.build_names import builds_of
from qwenctl.engine.builds.install_release import EngineOffer
from qwenctl.engine.builds.installed_engines import ChosenEngine, InstalledEngine, chosen, installed
from qwenctl.engine.find import AUTO, CHOSEN, PREVIOUS, EngineCandidate, candidates
from qwenctl.engine.program import EngineIdentity
from qwenctl.errors import NoServerError
from qwenctl.hardware.facts import Hardware

MB = 10**6


@dataclass(frozen=True, slots=True)
class EnginesHere:
    """The engines of this machine: installed ones, and others in the order in which they are tried."""

    installed: tuple[InstalledEngine, ...]
    choice: ChosenEngine
    serving: frozenset[str]
    others: tuple[EngineCandidate, ...]
    used: EngineIdentity | None
    why_none: NoServerError | None
    binary: str = AUTO


def engines_on_this_machine(resolved: ResolvedSettings, root: Path) -> EnginesHere:
    """Return the engines of this machine, and the one that the next start uses, if any is usable."""
    binary = resolved.settings.server.binary
    used = why_none = None
    try:
        used = engine_and_machine(resolved)[0].identity
    except NoServerError as error:
        why_none = error
    try:
        found = tuple(candidates(binary, root))
    except NoServerError:  # [server] binary names no program: that is why none is used
        found = ()
    others = tuple(each for each in found if each.place not in (CHOSEN, PREVIOUS))
    return EnginesHere(installed(root), chosen(root), in_force(root), others, used, why_none, binary)


def listed(
    session: Session, engines: EnginesHere | None, offer: EngineOffer | None, machine: Hardware
) -> Result:
    """Return the result of ``engine list``."""
    lines: list[str] = []
    data: dict[str, object] = {}
    if engines is not None:
        data["engines"] = [_json(each, engines) for each in engines.installed]
        data["others"] = [{"place": each.place, "path": str(each.path)} for each in engines.others]
        data["used"] = engines.used.to_json() if engines.used is not None else None
        data["why_none"] = engines.why_none.message if engines.why_none is not None else None
        lines += [*_table(engines), ""]
    if offer is not None:
        if offer.note:
            session.say(f"note: {offer.note}")
        data |= _release(offer)
        lines += _verdicts(offer, machine, all_of_them=session.verbose)
    else:
        data |= {"release": None, "builds": [], "chosen": None}
    return Result(data, "\n".join(lines).rstrip())


def _table(engines: EnginesHere) -> Iterator[str]:
    if not engines.installed:
        yield "no engine is installed (qwenctl engine install)"
    for engine in engines.installed:
        uses = "; ".join(_uses(engine, engines))
        yield f"{engine.name:24} installed   {_size(engine) / MB:7.0f} MB  {uses}".rstrip()
    for each in engines.others:
        yield f"{each.place:24} {each.path}"
    if (used := engines.used) is not None:
        yield f"the next start uses {used.name or used.place}: {used}"
        yield from (f"not {one.place} {one.path}: {one.why}" for one in used.passed_over)
    elif engines.why_none is not None:
        yield engines.why_none.message
        yield f"hint: {engines.why_none.hint}"
    if engines.binary != AUTO:
        yield f"[server] binary is {engines.binary}: no other engine is used"


def _size(engine: InstalledEngine) -> int:
    """Return how much an engine takes; 0 for files that vanish meanwhile."""
    total = 0
    for path in engine.folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += 0 if path.is_symlink() else path.lstat().st_size
    return total


def _uses(engine: InstalledEngine, engines: EnginesHere) -> Iterator[str]:
    if engine.name == engines.choice.current:
        yield "in use"
    if engine.name == engines.choice.previous:
        yield "in use before"
    if engine.name in engines.serving:
        yield "serving now"
    if engine.refused is not None:
        yield f"did not work here: {short_reason(engine.refused)}"


def _verdicts(offer: EngineOffer, machine: Hardware, *, all_of_them: bool) -> Iterator[str]:
    """Yield a line for each build of this system and processor; for all with ``-v``."""
    names = ", ".join(each.name for each in machine.accelerators) or machine.cpu.model or "this machine"
    yield f"llama.cpp {offer.release.tag} for {names}:"
    shown = [
        each
        for each in offer.choice.ranked
        if all_of_them or (each.build.os, each.build.arch) == (machine.os, machine.arch)
    ]
    for each in shown:
        yield f"  {each.build.kind:14} {each.rank:9} {each.build.bytes / MB:6.0f} MB  {each.reason}"
    for unknown in builds_of(offer.release).unknown:
        if all_of_them or (unknown.os, unknown.arch) == (machine.os, machine.arch):
            size = unknown.asset.bytes / MB
            yield f"  {'?':14} {'no':9} {size:6.0f} MB  {unknown.asset.name}: {unknown.why}"
    if offer.choice.why_none:
        yield f"none: {offer.choice.why_none}"


def _release(offer: EngineOffer) -> dict[str, object]:
    chosen_build = offer.choice.chosen
    return {
        "release": {"tag": offer.release.tag, "published": offer.release.published, "note": offer.note},
        "builds": [_build(each) for each in offer.choice.ranked],
        "unknown": [{"asset": each.asset.name, "why": each.why} for each in builds_of(offer.release).unknown],
        "chosen": chosen_build.name if chosen_build else None,
        "why_none": offer.choice.why_none,
    }


def _build(ranked: RankedBuild) -> dict[str, object]:
    build = ranked.build
    return {
        "name": build.name,
        "kind": build.kind,
        "os": build.os,
        "arch": build.arch,
        "rank": ranked.rank,
        "reason": ranked.reason,
        "bytes": build.bytes,
        "assets": [
            {"name": asset.name, "bytes": asset.bytes, "url": asset.url, "sha256": asset.sha256}
            for asset in build.assets
        ],
    }


def _json(engine: InstalledEngine, engines: EnginesHere) -> dict[str, object]:
    return data_of(engine) | {
        "bytes": _size(engine),
        "in_use": engine.name == engines.choice.current,
        "previous": engine.name == engines.choice.previous,
        "serving": engine.name in engines.serving,
        "refused": engine.refused,
    }
