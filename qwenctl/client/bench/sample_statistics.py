"""Statistics of a few measurements: their spread, and whether two sets really differ. Pure: no I/O."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 2000
SEED = 35
"""Fixed: the same measurements give the same interval."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, median, percentiles and number of measurements."""

    mean: float
    median: float
    p5: float
    p95: float
    count: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """The mean after divided by the mean before; with 95 % confidence it is between ``low`` and ``high``."""

    ratio: float
    low: float
    high: float

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval excludes 1.0, so that the difference is more than noise."""
        return self.low > 1 or self.high < 1


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    ordered = sorted(values)
    return Spread(
        sum(ordered) / len(ordered),
        quantile(ordered, 0.5),
        quantile(ordered, 0.05),
        quantile(ordered, 0.95),
        len(ordered),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the ordered values lie, interpolated."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ratio(before: Sequence[float], after: Sequence[float]) -> Ratio | None:
    """Return after / before with a bootstrap interval; None with fewer than two values on a side.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), the percentile interval.
    """
    if min(len(before), len(after)) < 2 or min(*before, *after) <= 0:
        return None
    generator = random.Random(SEED)  # noqa: S311 - statistics, no secret
    ratios = sorted(
        _mean(_resample(generator, after)) / _mean(_resample(generator, before)) for _ in range(RESAMPLES)
    )
    return Ratio(_mean(after) / _mean(before), quantile(ratios, 0.025), quantile(ratios, 0.975))


def _resample(generator: random.Random, values: Sequence[float]) -> list[float]:
    return generator.choices(values, k=len(values))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
