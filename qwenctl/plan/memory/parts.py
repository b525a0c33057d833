"""The figures of a prediction: the part of one device, the whole. Pure: no I/O."""

from dataclasses import dataclass
from typing import Literal

MemorySource = Literal["formula", "bound", "engine", "measured"]
"""Where figures come from. A ``bound`` is an upper limit: nobody has written formulas for this family."""


@dataclass(frozen=True, slots=True)
class DeviceNeed:
    """What one device must hold, and how much it may: a part of ``capacity_bytes``, others get the rest."""

    id: str
    need_bytes: int
    budget_bytes: int
    capacity_bytes: int = 0
    weights_bytes: int = 0
    kv_bytes: int = 0
    recurrent_bytes: int = 0
    compute_bytes: int = 0
    extras_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Memory:
    """A prediction. ``device_bytes`` excludes ``overhead_bytes``; on CPU it is 0 and all is host.

    ``budget_bytes`` is what the devices may hold together (on CPU: the RAM); ``headroom_bytes`` the room left
    in the tightest budget. ``host_bytes`` includes ``cache_bytes`` and ``checkpoints_bytes``.
    """

    weights_bytes: int
    kv_bytes: int
    recurrent_bytes: int
    compute_bytes: int
    overhead_bytes: int
    device_bytes: int
    host_bytes: int
    budget_bytes: int
    headroom_bytes: int
    devices: tuple[DeviceNeed, ...] = ()
    source: MemorySource = "formula"
    extras_bytes: int = 0
    cache_bytes: int = 0
    checkpoints_bytes: int = 0
    host_budget_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the model one device holds, in bytes.

    ``mapped`` of the weights are the input's: pages of the file that lie in Metal's buffer, and that it never
    reads.
    """

    weights: int
    kv: int
    recurrent: int
    compute: int
    extras: int = 0
    mapped: int = 0

    @property
    def total(self) -> int:
        """All memory that the device must hold."""
        return self.weights + self.kv + self.recurrent + self.compute + self.extras
