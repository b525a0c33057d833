"""Find the options that make this model faster on this machine, within a time budget.

    baseline ─> each variant, added to the options kept so far ─> all kept options once more ─> the result

The caller's ``switch`` restarts the supervised server with other options and returns when it generates.
Decides what to try and what to keep; starts nothing itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qwenctl.client.bench.sample_statistics import Ratio, ratio
from qwenctl.errors import QwenctlError

OptionVerdict = Literal["base", "kept", "no faster", "too much memory", "refused", "no time"]
WORTH = 1.02
"""A gain below two per cent is not worth another option, however sure it is."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Options to try. ``exact``: they do not change answers. At most one variant per ``group`` is kept."""

    name: str
    group: str
    arguments: tuple[str, ...]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class BenchSample:
    """The measurements of one set of options: generation speeds, greedy answers by question, memory."""

    speeds: tuple[float, ...]
    answers: Mapping[str, str]
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class TriedOption:
    """The result of one variant. ``same`` is the share of greedy text that did not change; None: not run."""

    variant: Variant
    verdict: OptionVerdict
    speeds: tuple[float, ...] = ()
    gain: Ratio | None = None
    same: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The options to use (none: the old ones are best), the speeds before and after, and all variants."""

    arguments: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    gain: Ratio | None
    tried: tuple[TriedOption, ...]


Switch = Callable[[tuple[str, ...]], None]
Measure = Callable[[], BenchSample]


def variants(
    flags: Iterable[str], cores: int, logical: int, *, mtp: bool, inexact: bool
) -> tuple[Variant, ...]:
    """Return the variants that a binary with these flags can run, exact ones first.

    ``mtp``: the model file has the layers for multi-token prediction.
    """
    known = set(flags)
    offered: list[Variant] = []
    if "--threads" in known:
        counts = dict.fromkeys(count for count in (cores, logical, cores // 2, cores - 1) if count > 0)
        offered += [Variant(f"{count} threads", "threads", ("--threads", str(count))) for count in counts]
    if "--spec-type" in known:
        kinds = {"ngram-mod": "--spec-ngram-mod-n-max", "ngram-simple": "--spec-ngram-simple-size-n"}
        offered += [
            Variant(kind, "speculation", ("--spec-type", kind))
            for kind, flag in kinds.items()
            if flag in known
        ]
    if mtp and {"--spec-type", "--spec-draft-n-max"} <= known:
        offered += [
            Variant(f"mtp {n}", "speculation", ("--spec-type", "draft-mtp", "--spec-draft-n-max", str(n)))
            for n in (2, 3)
        ]
    return tuple(offered) + (_inexact(known) if inexact else ())


def tune(
    offered: Sequence[Variant],
    switch: Switch,
    measure: Measure,
    most_bytes: int | None,
    time_left: Callable[[], bool],
    on_result: Callable[[TriedOption], None],
) -> Tuned:
    """Return the options to use. Afterwards the server runs with its old options again.

    ``most_bytes`` is the plan's memory. A variant that needs more, and more than the baseline, is not kept.
    """
    base = measure()
    allowed = None if most_bytes is None else max(most_bytes, base.memory_bytes or 0)
    results: list[TriedOption] = [TriedOption(Variant("as it is", "", ()), "base", base.speeds, same=1.0)]
    on_result(results[0])
    winners: dict[str, Variant] = {}
    before = base.speeds
    try:
        for variant in offered:
            if not time_left():
                results.append(TriedOption(variant, "no time"))
                on_result(results[-1])
                continue
            beside = _Beside(_arguments(winners.values()), before, switch, measure)
            result = _try(
                variant, _arguments({**winners, variant.group: variant}.values()), beside, base, allowed
            )
            if result.verdict == "kept":
                winners[variant.group] = variant
                switch(_arguments(winners.values()))
                before = measure().speeds
            else:
                before = beside.before
            results.append(result)
            on_result(result)
        arguments = _arguments(winners.values())
        if not arguments:
            return Tuned((), base.speeds, base.speeds, None, tuple(results))
        switch(())
        beside = _Beside((), measure().speeds, switch, measure)
        first = beside.before
        after, gain = beside.compare(arguments)
        sure = gain is not None and gain.low > 1
        return Tuned(arguments if sure else (), first + beside.before, after.speeds, gain, tuple(results))
    finally:
        switch(())


def same_share(before: Mapping[str, str], after: Mapping[str, str]) -> float | None:
    """Return the share of greedy text before the first difference."""
    total = sum(len(text) for text in before.values())
    if not total:
        return None
    return sum(_common(text, after.get(name, "")) for name, text in before.items()) / total


def _inexact(known: set[str]) -> tuple[Variant, ...]:
    offered: list[Variant] = []
    if "--ubatch-size" in known:
        offered += [
            Variant(f"ubatch {n}", "ubatch", ("--ubatch-size", str(n)), exact=False) for n in (256, 1024)
        ]
    if {"-ctk", "-ctv", "--flash-attn"} <= known:
        words = ("-ctk", "q8_0", "-ctv", "q8_0", "--flash-attn", "on")
        offered.append(Variant("kv q8_0", "attention", words, exact=False))
    if "--flash-attn" in known:
        offered += [
            Variant(f"flash attention {how}", "attention", ("--flash-attn", how), exact=False)
            for how in ("on", "off")
        ]
    return tuple(offered)


class _Beside:
    """Compares options with the kept ones, measured before and after: a machine's speed drifts.

    ``before`` is the last measurement of the kept options.
    """

    def __init__(
        self, baseline: tuple[str, ...], before: tuple[float, ...], switch: Switch, measure: Measure
    ) -> None:
        self.before = before
        self._baseline, self._switch, self._measure = baseline, switch, measure

    def compare(self, arguments: tuple[str, ...]) -> tuple[BenchSample, Ratio | None]:
        """Return the sample of ``arguments`` and its gain. Afterwards the kept options run again.

        Raises:
            QwenctlError: the server does not start with these options.
        """
        first = self.before
        self._switch(arguments)
        sample = self._measure()
        self._switch(self._baseline)
        self.before = self._measure().speeds
        return sample, ratio(first + self.before, sample.speeds)


def _try(
    variant: Variant, arguments: tuple[str, ...], beside: _Beside, base: BenchSample, allowed: int | None
) -> TriedOption:
    try:
        sample, gain = beside.compare(arguments)
        if _faster(gain):  # two starts of a server differ, too, so one gain may be chance
            again, second = beside.compare(arguments)
            sample, gain = (sample, gain) if _ratio(gain) < _ratio(second) else (again, second)
    except QwenctlError as error:
        return TriedOption(variant, "refused", why=error.message)
    same = same_share(base.answers, sample.answers)
    if allowed is not None and sample.memory_bytes is not None and sample.memory_bytes > allowed:
        return TriedOption(variant, "too much memory", sample.speeds, gain, same)
    return TriedOption(variant, "kept" if _faster(gain) else "no faster", sample.speeds, gain, same)


def _faster(gain: Ratio | None) -> bool:
    return gain is not None and gain.low > 1 and gain.ratio >= WORTH


def _ratio(gain: Ratio | None) -> float:
    return gain.ratio if gain is not None else 0.0


def _arguments(variants_: Iterable[Variant]) -> tuple[str, ...]:
    return tuple(word for variant in variants_ for word in variant.arguments)


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
