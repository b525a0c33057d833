"""Read the table that ``llama-fit-params --fit-print on`` prints. Pure: no I/O.

Sizes are MiB, as llama.cpp prints them. Source: llama.cpp b11434, common/fit.cpp.
"""

import re
from dataclasses import dataclass

_FIT = re.compile(r"^(\S+) (\d+) (\d+) (\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FitRow:
    """One line of ``llama-fit-params --fit-print on``: what a device, or the host, would hold."""

    device: str
    model_mib: int
    context_mib: int
    compute_mib: int

    @property
    def total_mib(self) -> int:
        """All memory on that device."""
        return self.model_mib + self.context_mib + self.compute_mib


def parse_fit(text: str) -> tuple[FitRow, ...]:
    """Return the rows of ``llama-fit-params``' standard output."""
    return tuple(FitRow(name, int(a), int(b), int(c)) for name, a, b, c in _FIT.findall(text))


def error_percent(predicted: float, actual: float) -> float:
    """Return the error of a prediction in percent of the actual figure. Above 0: it predicted too much."""
    return (predicted - actual) * 100 / actual if actual else 0.0
