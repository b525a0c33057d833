"""Choose the quant, the context and the KV type for a machine. Pure: no I/O, and total.

The profile's hardware rows recommend, memory decides. order.py lists the candidates, budget.py judges each
one. The plan is the first candidate that fits; if there is none, the first that fits with a named fix. Else
the result is ``NoFit``, which says what would fit.
"""

import difflib
from collections.abc import Iterator

from qwenctl.errors import SettingsError
from qwenctl.hardware.facts import Hardware
from qwenctl.model.profile import File, HubSource, Profile, Quant
from qwenctl.plan.budget import Judged, Need, Verdict, judge, machines, memory
from qwenctl.plan.known import KnownLoad
from qwenctl.plan.memory import MIB
from qwenctl.plan.need import Question, need_of
from qwenctl.plan.order import Candidate, candidates, kv_types, poorest_kv_type, recommended
from qwenctl.plan.outcome import Considered, Extras, MemoryRefusal, NoFit, Plan, TriedCandidate
from qwenctl.plan.reasons import bottom, considered, no_fit_reason, reason_of, untried, warnings
from qwenctl.plan.speed import speed
from qwenctl.settings.types import Settings

__all__ = [
    "Considered",
    "Extras",
    "KnownLoad",
    "MemoryRefusal",
    "NoFit",
    "Plan",
    "Verdict",
    "find_quant",
    "plan",
]


def find_quant(profile: Profile, name: str) -> Quant:
    """Return the quant of that name.

    Raises:
        SettingsError: the profile has none; the hint names the nearest.
    """
    quant = profile.quant(name)
    if quant is None:
        names = {quant.name.lower(): quant.name for quant in profile.quants}
        near = difflib.get_close_matches(name.lower(), names, n=1)
        raise SettingsError(
            f"cannot use quant {name!r}: profile {profile.name} has no such quant",
            hint=f"did you mean {names[near[0]]}?" if near else f"known: {', '.join(names.values())}",
        )
    return quant


def plan(
    hardware: Hardware,
    profile: Profile,
    settings: Settings,
    *,
    siblings: tuple[Profile, ...] = (),
    refused: frozenset[MemoryRefusal] = frozenset(),
    extras: Extras = Extras(),  # noqa: B008  frozen, and nothing extra is the plain case
    known: tuple[KnownLoad, ...] = (),
) -> Plan | NoFit:
    """Return the best choice for this machine, or why there is none.

    ``hardware`` is what the server can use of the machine (``hardware.devices.usable``). ``known`` corrects
    the formulas by what loads of this model really took here, or by what the engine answered.
    """
    question = Question(machines(hardware), profile, settings, extras, known)
    tried: list[TriedCandidate] = []
    tight = chosen = None
    for candidate in candidates(question.ways[0], profile, settings):
        best = _best_way(question, candidate, refused)
        tried.append(best)
        if best.judged.verdict == "fits":
            chosen = best
            break
        if best.judged.verdict == "tight" and tight is None:
            tight = best
    chosen = chosen or tight
    if chosen is None:
        return _no_fit(hardware, question, tried, siblings)
    shown = (
        *(considered(one, reason_of(one, chosen, profile, settings)) for one in _distinct(tried, chosen)),
        *_others(question, tried),
    )
    return _plan(hardware, profile, settings, chosen, shown, drafting=extras.draft_tokens > 0)


def _best_way(
    question: Question, candidate: Candidate, refused: frozenset[MemoryRefusal] = frozenset()
) -> TriedCandidate:
    """Return the candidate on all cards, or on as many of the largest as make it fit."""
    outcomes = []
    for way, machine in enumerate(question.ways):
        need = need_of(question, candidate, way)
        judged = _unless_refused(judge(machine, need), need, refused)
        outcomes.append(TriedCandidate(candidate, machine, need, judged))
        if judged.verdict != "no":
            return outcomes[-1]
    return outcomes[0]


def _unless_refused(judged: Judged, need: Need, refused: frozenset[MemoryRefusal]) -> Judged:
    """Return the verdict; "no" where the need is at least one that memory refused here before."""
    for one in sorted(refused, key=lambda each: each.bytes):
        needs = {"device": need.device_bytes, "host": need.total_bytes, "start": need.start_bytes}[one.place]
        if needs >= one.bytes:
            return Judged("no", "out of memory here before", needs, one.bytes)
    return judged


def _distinct(tried: list[TriedCandidate], chosen: TriedCandidate | None) -> Iterator[TriedCandidate]:
    """Keep one entry for each quant, context and KV type: the chosen one, else the one that came closest."""
    kept: dict[tuple[str, int, str], TriedCandidate] = {}
    for one in tried:
        key = (one.candidate.quant.name, one.candidate.context_tokens, one.candidate.kv_type)
        if key not in kept or kept[key] is not chosen:
            kept[key] = one
    yield from kept.values()


def _others(question: Question, tried: list[TriedCandidate]) -> Iterator[Considered]:
    """Yield each quant that was never tried, with the reason."""
    profile, settings, wanted = question.profile, question.settings, question.settings.context
    tokens = min(wanted.tokens, profile.architecture.context_length)
    kv_type = kv_types(profile, settings)[0]
    tried_names = {one.candidate.quant.name for one in tried}
    row = recommended(question.ways[0], profile)
    for quant in profile.quants:
        if quant.name not in tried_names:
            one = _best_way(
                question, Candidate(quant, tokens, kv_type, wanted.cache_ram_mib, wanted.checkpoints)
            )
            yield considered(one, untried(one, row, profile, settings))


def _plan(
    hardware: Hardware,
    profile: Profile,
    settings: Settings,
    chosen: TriedCandidate,
    shown: tuple[Considered, ...],
    *,
    drafting: bool,
) -> Plan:
    candidate, machine = chosen.candidate, chosen.machine
    fix = None
    if chosen.judged.wired_bytes is not None:
        fix = f"sudo sysctl iogpu.wired_limit_mb={chosen.judged.wired_bytes // MIB}"
    hub = profile.hub
    files = candidate.quant.files
    if drafting and profile.mtp is not None:
        hub = HubSource(repo=profile.mtp.repo, revision=profile.mtp.revision, source=profile.mtp.source)
        files = tuple(_with_block(file, profile.mtp.block_share) for file in files)
    pace = speed(machine, profile, candidate.quant, hardware.cpu.physical_cores)
    return Plan(
        profile=profile.name,
        quant=candidate.quant.name,
        repo=hub.repo if hub else None,
        revision=hub.revision if hub else None,
        files=files,
        context_tokens=candidate.context_tokens,
        kv_type=candidate.kv_type,
        parallel=settings.context.parallel,
        cache_ram_mib=candidate.cache_ram_mib,
        checkpoints=candidate.checkpoints,
        verdict=chosen.judged.verdict,
        memory=memory(machine, chosen.need, chosen.judged),
        considered=shown,
        warnings=tuple(warnings(hardware, profile, settings, chosen, fix, pace)),
        devices=machine.ids,
        fix=fix,
        speed=pace,
    )


def _with_block(file: File, share: float) -> File:
    """Return the file of the twin repository: the same name, other bytes. Only the hub has its hash."""
    return File(name=file.name, bytes=int(file.bytes * (1 + share)))


def _no_fit(
    hardware: Hardware, question: Question, tried: list[TriedCandidate], siblings: tuple[Profile, ...]
) -> NoFit:
    """Say why nothing fits, and what would: another quant, a smaller model."""
    profile, settings = question.profile, question.settings
    name = settings.model.quant
    if name != "auto" and profile.quant(name) is None:
        return NoFit(profile.name, f"profile {profile.name} has no quant {name!r}", None, ())
    shown = [
        *(considered(one, reason_of(one, None, profile, settings)) for one in _distinct(tried, None)),
        *_bottoms(question, tried),
    ]
    reason = no_fit_reason(question.ways[0], profile, settings, shown)
    sibling = _sibling(hardware, profile, settings, siblings)
    fitting = [one.quant for one in shown if one.verdict != "no"]
    hint = f"qwenctl up --profile {sibling}" if sibling else None
    if name != "auto" and fitting:
        hint = f"qwenctl up --quant {fitting[0]}"
    return NoFit(profile.name, reason, hint, tuple(shown), sibling)


def _bottoms(question: Question, tried: list[TriedCandidate]) -> Iterator[Considered]:
    """Yield each quant that was not tried, with every loss applied, to learn whether at least that fits."""
    profile, wanted = question.profile, question.settings.context
    tokens = min(wanted.tokens, profile.architecture.context_length)
    least = min(wanted.min_tokens, tokens)
    kv_type = poorest_kv_type(profile, question.settings)
    tried_names = {one.candidate.quant.name for one in tried}
    for quant in profile.quants:
        if quant.name not in tried_names:
            one = _best_way(question, Candidate(quant, least, kv_type, 0, 0))
            yield considered(one, bottom(one))


def _sibling(
    hardware: Hardware, profile: Profile, settings: Settings, siblings: tuple[Profile, ...]
) -> str | None:
    """Return the largest other profile that fits. One that needs a fix is returned only if no other fits."""
    plain = settings.model_copy(update={"model": settings.model.model_copy(update={"quant": "auto"})})
    tight = None
    for other in sorted(siblings, key=lambda one: -max(quant.bytes for quant in one.quants)):
        if other.name == profile.name or other.generated:
            continue
        outcome = plan(hardware, other, plain)
        if isinstance(outcome, Plan) and outcome.verdict == "fits":
            return other.name
        if isinstance(outcome, Plan) and tight is None:
            tight = other.name
    return tight
