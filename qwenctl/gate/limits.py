"""How much and how long the gate bears. Pure: no I/O."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Holding, bodies, slow clients. The first three and the drain come from ``[gate]``.

    ``sign_after_s``: a waiting stream gets its head and a comment then, and one every ``sign_every_s``.
    ``stall_s``: a client that takes nothing for so long is cut off. ``answer_bytes``: plain answers up to
    this size are kept until they are whole, so that they can be asked for again.
    """

    hold_timeout_s: float = 300.0
    max_held: int = 256
    max_held_bytes: int = 268_435_456
    max_body_bytes: int = 67_108_864
    body_timeout_s: float = 120.0
    keepalive_s: float = 75.0
    head_bytes: int = 16_384
    sign_after_s: float = 10.0
    sign_every_s: float = 15.0
    stall_s: float = 300.0
    moved_on_s: float = 1.0
    answer_bytes: int = 4_194_304
