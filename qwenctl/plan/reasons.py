"""Put a plan's decisions into words: why a candidate lost, what the chosen one gives up. Pure: no I/O."""

from collections.abc import Iterator

from qwenctl.hardware.facts import Hardware
from qwenctl.model.profile import Profile, Quant
from qwenctl.plan.budget import Judged, Machine
from qwenctl.plan.order import Candidate, recommended
from qwenctl.plan.outcome import Considered, TriedCandidate
from qwenctl.plan.speed import Speed
from qwenctl.settings.types import Settings

SMALL_BYTES = 10**9
"""A smaller model is quick on any CPU: one of 98 MB writes 30 to 100 tokens/s on two cores (measured)."""


def considered(one: TriedCandidate, reason: str) -> Considered:
    """Return the candidate with its reason."""
    return Considered(
        one.candidate.quant.name,
        one.candidate.context_tokens,
        one.candidate.kv_type,
        one.judged.verdict,
        one.judged.need_bytes,
        one.judged.have_bytes,
        reason,
    )


def reason_of(
    one: TriedCandidate, chosen: TriedCandidate | None, profile: Profile, settings: Settings
) -> str:
    """Say why a candidate that was tried won or lost."""
    if one is chosen:
        given_up = losses(one.candidate, profile, settings)
        return f"chosen, with {', '.join(given_up)}" if given_up else "chosen"
    return shortfall(one.judged) if one.judged.verdict == "no" else "fits only with a raised Metal limit"


def untried(one: TriedCandidate, row: Quant | None, profile: Profile, settings: Settings) -> str:
    """Say why a candidate was never tried."""
    quant = one.candidate.quant
    if settings.model.quant != "auto":
        return f"not considered: the settings name {settings.model.quant}"
    if quant.named_only:
        return _by_name(quant)
    if one.judged.verdict == "no":
        return shortfall(one.judged)
    if row is not None and profile.quants.index(quant) < profile.quants.index(row):
        if not profile.rows:
            return f"larger than {row.name}, and no better that one would notice"
        return f"slower: the profile recommends {row.name} for this machine"
    return "not needed: a better one fits"


def _by_name(quant: Quant) -> str:
    return f"only when asked for by name: {quant.note or 'no hardware row was made with it'}"


def bottom(one: TriedCandidate) -> str:
    """Say whether a candidate would run with every loss applied."""
    quant = one.candidate.quant
    if one.judged.verdict == "no":
        return shortfall(one.judged)
    return _by_name(quant) if quant.named_only else "would fit"


def shortfall(judged: Judged) -> str:
    """Say how much is needed where, and how much there is."""
    need, have = judged.need_bytes / 2**30, judged.have_bytes / 2**30
    if judged.place.startswith("out of memory"):
        return f"ran {judged.place} with {have:.1f} GiB; this needs {need:.1f}"
    return f"needs {need:.1f} GiB on {judged.place}, which has {have:.1f} to give"


def losses(candidate: Candidate, profile: Profile, settings: Settings) -> list[str]:
    """Name what the candidate gives up against the settings for want of memory."""
    wanted, given_up = settings.context, []
    tokens = min(wanted.tokens, profile.architecture.context_length)
    if candidate.context_tokens < tokens:
        given_up.append(f"{candidate.context_tokens:,} tokens of context instead of {tokens:,}")
    if wanted.kv_type == "auto" and candidate.kv_type not in ("f16", "bf16", "f32"):
        given_up.append(f"{candidate.kv_type} keys and values")
    if candidate.cache_ram_mib < wanted.cache_ram_mib:
        given_up.append(f"{candidate.cache_ram_mib:,} MiB of host cache instead of {wanted.cache_ram_mib:,}")
    if candidate.checkpoints < wanted.checkpoints:
        given_up.append(f"{candidate.checkpoints} of {wanted.checkpoints} checkpoints")
    return given_up


def warnings(
    hardware: Hardware,
    profile: Profile,
    settings: Settings,
    chosen: TriedCandidate,
    fix: str | None,
    pace: Speed,
) -> Iterator[str]:
    """Yield warnings that the owner should read before this plan runs."""
    quant, machine = chosen.candidate.quant, chosen.machine
    yield from _model_warnings(profile, settings, chosen)
    if fix:
        number = fix.rpartition("=")[2]
        yield (
            f"fits only after {fix!r}, which lasts until the next restart of the machine; "
            f"'sudo qwenctl service wired-limit {number}' sets it at each start of the machine"
        )
    if given_up := losses(chosen.candidate, profile, settings):
        yield f"memory is short: {', '.join(given_up)}"
    if quant.note:
        yield f"{quant.name}: {quant.note}"
    yield from _cpu_warning(machine, profile, quant, pace)
    if pace.doubtful:
        yield (
            f"{pace.low:g} tokens/s are claimed for such a machine; its memory allows {pace.bound:g} at most"
        )
    if len(machine.accelerators) < sum(card.memory == "dedicated" for card in hardware.accelerators):
        yield f"only {', '.join(machine.ids)} is used: the smallest card cannot hold its share"
    if quant.estimated and not profile.generated:
        yield f"the size of {quant.name} is an estimate until the hub has been read"


def _model_warnings(profile: Profile, settings: Settings, chosen: TriedCandidate) -> Iterator[str]:
    """Yield what is to be said of the model, whatever the machine."""
    model = profile.architecture
    if profile.note:
        yield profile.note
    if chosen.need.source == "bound":
        yield (
            f"nobody has written memory formulas for the architecture {model.name!r}: "
            "the figures are an upper bound"
        )
    if model.context_length < settings.context.tokens:
        yield f"the model's own context is {model.context_length:,} tokens, not {settings.context.tokens:,}"


def _cpu_warning(machine: Machine, profile: Profile, quant: Quant, pace: Speed) -> Iterator[str]:
    if machine.kind != "cpu" or profile.generated:
        return
    local = profile.made and profile.hub is None
    size = "" if local else f" ({quant.bytes / 1e9:.0f} GB to download)"
    if pace.low is not None:
        yield f"no GPU: expect {pace.low:g} to {pace.high or pace.low:g} tokens/s{size}"
    elif quant.bytes > SMALL_BYTES:
        yield f"no GPU: expect few tokens/s{size}"


def no_fit_reason(machine: Machine, profile: Profile, settings: Settings, shown: list[Considered]) -> str:
    """Say in one sentence why nothing fits."""
    size = f"{machine.capacity_bytes / 1e9:.1f} GB"
    if settings.model.quant != "auto":
        one = shown[0]
        return f"{one.quant} {one.reason} even with every concession"
    if not profile.rows and len(profile.quants) == 1:
        return f"{profile.title} {shown[0].reason} even with every concession"
    if recommended(machine, profile) is None:
        least = min((row.at_least_gb for row in profile.rows if machine.kind in row.memory), default=None)
        if least is None:
            return f"the profile has no row for {machine.kind} memory"
        return f"{profile.title} needs {least:g} GB of {machine.kind} memory or more, this machine has {size}"
    return f"no quant of {profile.title} fits in {size} of {machine.kind} memory"
