"""The options of the gate: one frozen value, made from the settings. Pure: no I/O.

The key file is named here as the settings name it. Its keys are read by ``api_keys``.
"""

from dataclasses import dataclass, field

from qwenctl.gate import guard
from qwenctl.gate.slots.rules import SlotLimits
from qwenctl.plan.outcome import Plan
from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class GateLimits:
    """How many requests and bytes the gate holds, and how long it waits.

    The first three come from ``[gate]``. ``comment_after_s``: a stream that waits so long for its answer gets
    its head and a comment, and another comment every ``comment_every_s``. ``stall_s``: a client that takes no
    byte for so long is disconnected. ``child_gone_s``: so long may the news of a child's end come later than
    the loss of its connections. ``answer_bytes``: a plain answer up to this size is kept until it is whole,
    so that its request can be sent again. ``continue_streams``: the next child finishes a stream that has
    begun. ``keepalive_s`` and ``head_bytes`` are fixed when an address opens.
    """

    hold_timeout_s: float = 300.0
    max_held: int = 256
    max_held_bytes: int = 268_435_456
    max_body_bytes: int = 67_108_864
    body_timeout_s: float = 120.0
    keepalive_s: float = 75.0
    head_bytes: int = 16_384
    comment_after_s: float = 10.0
    comment_every_s: float = 15.0
    stall_s: float = 300.0
    child_gone_s: float = 1.0
    answer_bytes: int = 4_194_304
    continue_streams: bool = True


@dataclass(frozen=True, slots=True)
class GateOptions:
    """Everything that one configuration says about the gate, except the address.

    ``rules``, ``key_file`` and ``allow_open`` belong to an address; the others to the whole gate.
    ``idle_unload_s`` 0: the child is never stopped because it is unused. ``warm``: slots are saved and
    restored.
    """

    rules: guard.Rules = field(default_factory=guard.Rules)
    key_file: str | None = None
    allow_open: bool = False
    limits: GateLimits = field(default_factory=GateLimits)
    idle_unload_s: float = 0.0
    warm: bool = True
    warm_after_s: float = 5.0
    slot_limits: SlotLimits = field(default_factory=SlotLimits)


def gate_options(settings: Settings, plan: Plan | None = None) -> GateOptions:
    """Return the options that ``settings`` ask for. ``plan`` says how many bytes a slot takes on the disk."""
    gate, server = settings.gate, settings.server
    slot_limits = SlotLimits(gate.warm_min_tokens, gate.warm_max_bytes)
    if plan is not None:
        slot_limits = SlotLimits(
            gate.warm_min_tokens,
            gate.warm_max_bytes,
            bytes_per_token=plan.memory.kv_bytes // (plan.context_tokens * plan.parallel),
            bytes_fixed=plan.memory.recurrent_bytes // plan.parallel,
        )
    return GateOptions(
        rules=guard.rules(server.host, gate.allowed_hosts, gate.allowed_origins),
        key_file=server.api_key_file,
        allow_open=gate.allow_open,
        limits=GateLimits(
            gate.hold_timeout_s,
            gate.max_held,
            gate.max_held_bytes,
            continue_streams=gate.continue_streams,
        ),
        idle_unload_s=gate.idle_unload_s,
        warm=gate.warm,
        warm_after_s=gate.warm_after_s,
        slot_limits=slot_limits,
    )
