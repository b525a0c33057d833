"""The shape of the status that the daemon publishes and every reader gets. Pure: no I/O."""

from dataclasses import dataclass, field
from typing import Literal

PhaseName = Literal[
    "down",
    "planning",
    "fetching",
    "starting",
    "restoring",
    "ready",
    "draining",
    "stopping",
    "backoff",
    "idle",
    "failed",
]


@dataclass(frozen=True, slots=True)
class PlanStatus:
    """What is being served, or about to be."""

    profile: str
    quant: str
    context_tokens: int
    title: str = ""
    warnings: tuple[str, ...] = ()
    path: str | None = None  # the model file; None before it is here


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often the server ended without anyone's wish."""

    total: int = 0
    by_cause: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LastEnding:
    """The last ending that nobody wished for."""

    cause: str
    summary: str
    permanent: bool
    hint: str | None
    log_tail: list[str]


@dataclass(frozen=True, slots=True)
class RefusedChange:
    """A wish that is not served. ``rolled_back``: it was started, and generated no token.

    ``away``: it waits for a card that does not answer now.
    """

    number: int
    code: str
    message: str
    hint: str | None
    rolled_back: bool
    away: bool = False


@dataclass(frozen=True, slots=True)
class ChangeStatus:
    """The newest wish and where it is. Each wish has a number, and a newer one replaces an older one.

    ``origin`` says where the wish comes from: start, up, file, reload, engine, memory or devices. ``refused``
    is the newest wish that is not served, until another one can be planned.
    """

    number: int = 0
    origin: str = "start"
    state: Literal["planning", "fetching", "trial", "settled", "refused"] = "planning"
    refused: RefusedChange | None = None


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The configuration that generated no token; the one before it runs instead."""

    why: str
    at: str


@dataclass(frozen=True, slots=True)
class ConfigStatus:
    """The config file as it was read last."""

    path: str
    valid: bool = True
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """A running transfer."""

    file: str
    bytes: int
    total_bytes: int
    bytes_per_s: float | None


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """What the plan predicted and what the server reported after its load.

    Before the load, the prediction is the whole need. After it, the prediction covers only the buffers that
    the load reports: those on the devices, or those on the host if there is no device. ``error_percent`` is
    the difference in percent of the reported bytes.
    """

    predicted_bytes: int | None = None
    actual_bytes: int | None = None
    error_percent: float | None = None


@dataclass(frozen=True, slots=True)
class ReexecStatus:
    """The last re-execution: from which version to which, and how long the clients waited.

    ``child_kept``: the server went on with its model. ``error``: why another program does not run; None if
    it does.
    """

    number: int
    at: str
    before: str
    to: str
    waited_s: float
    child_kept: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class WarmStatus:
    """What became of restored conversations since the daemon's start, in tokens.

    ``restored_tokens`` were promised to requests, ``reused_tokens`` of them found. ``misses``: answers that
    found less than 90 % of what was promised to them.
    """

    restored_tokens: int = 0
    reused_tokens: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """``status.json``, and the answer to ``GET /v1/status``. Times are RFC 3339 UTC, sizes bytes.

    ``degraded``: what was given up because memory ran out. ``troubles``: what is wrong around a server
    that goes on serving, such as a full disk. ``asks_key``: whether clients must send a key;
    None until the endpoint is open. ``continued``: streams whose server went away and that a later one
    finished, since the daemon's start. ``engine``: the llama-server of what is served, as engine/program.py's
    ``to_json`` has it. ``stop_timeout_s``: how long stopping the daemon may take.
    ``ready_timeout_s``: how long the server may take from its start to its first token.
    """

    phase: PhaseName
    ready: bool
    endpoint: str | None
    pid: int | None
    daemon_pid: int
    since: str
    next_try_at: str | None
    plan: PlanStatus | None
    restarts: Restarts
    last_ending: LastEnding | None
    config: ConfigStatus
    version: str
    download: Download | None = None
    memory: MemoryStatus = MemoryStatus()
    rolled_back: RolledBack | None = None
    change: ChangeStatus = ChangeStatus()
    newer_commit: str | None = None
    degraded: str | None = None
    troubles: list[str] = field(default_factory=list)
    held: int = 0
    in_flight: int = 0
    asks_key: bool | None = None
    continued: int = 0
    engine: dict[str, object] | None = None
    stop_timeout_s: float = 60.0
    ready_timeout_s: float = 600.0
    reexec: ReexecStatus | None = None
    warm: WarmStatus = WarmStatus()
