"""Correct a prediction by what is known: a load measured here, or the engine's own answer. Pure: no I/O."""

from dataclasses import dataclass, replace
from typing import Literal

from qwenctl.plan.memory import Load, Part

KnownSource = Literal["measured", "engine"]
Parts = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class KnownLoad:
    """What one load really takes: ``measured`` on this machine with this engine, or the ``engine``'s answer.

    ``parts`` are the devices, in llama.cpp's order; ``host`` is all that the host holds, its caches and
    checkpoints aside.
    """

    quant: str
    context_tokens: int
    kv_type: str
    parallel: int
    parts: Parts
    host: Part
    source: KnownSource

    def is_of(self, quant: str, load: Load, devices: int) -> bool:
        """Say whether this is the load of that quant."""
        same = (self.context_tokens, self.kv_type, self.parallel) == (
            load.context_tokens,
            load.kv_type,
            load.parallel,
        )
        return same and self.helps(quant, load, devices)

    def helps(self, quant: str, load: Load, devices: int) -> bool:
        """Say whether this load tells something about that one: same quant, KV type and number of devices."""
        return self.quant == quant and self.kv_type == load.kv_type and len(self.parts) == devices


def as_mapped(known: KnownLoad, predicted: Parts, predicted_host: Part) -> KnownLoad:
    """Return a load of Metal as a plan counts it: the pages that it maps are the device's, and count once.

    A log names the embedding twice, in Metal's buffer and as the host's mapped pages. A dry run maps nothing
    and leaves it with the host.
    """
    unmapped = 0 if known.source == "measured" else 1
    parts = tuple(
        replace(part, weights=part.weights + unmapped * guess.mapped, mapped=guess.mapped)
        for part, guess in zip(known.parts, predicted, strict=True)
    )
    return replace(known, parts=parts, host=replace(known.host, weights=predicted_host.weights))


def nearest(known: tuple[KnownLoad, ...], quant: str, load: Load, devices: int) -> KnownLoad | None:
    """Return the known load that tells most about this one: that one itself, else the nearest context.

    What was measured counts before what the engine said.
    """
    helpful = [one for one in known if one.helps(quant, load, devices)]

    def distance(one: KnownLoad) -> tuple[bool, bool, int]:
        away = abs(one.context_tokens * one.parallel - load.context_tokens * load.parallel)
        return (not one.is_of(quant, load, devices), one.source != "measured", away)

    return min(helpful, key=distance, default=None)


def corrected(predicted: Part, at_known: Part, known: Part) -> Part:
    """Return a prediction corrected by the error that the formulas made at a known load.

    Weights are wrong by a difference, whatever the context. Everything else grows with the context or the
    slots, so it is wrong by a ratio.
    """
    return Part(
        weights=max(0, predicted.weights + known.weights - at_known.weights),
        kv=_scaled(predicted.kv, at_known.kv, known.kv),
        recurrent=_scaled(predicted.recurrent, at_known.recurrent, known.recurrent),
        compute=_scaled(predicted.compute, at_known.compute, known.compute),
        extras=predicted.extras,
        mapped=predicted.mapped,
    )


def _scaled(predicted: int, at_known: int, known: int) -> int:
    if at_known <= 0:
        return max(0, predicted + known)
    return max(0, predicted * known // at_known)
