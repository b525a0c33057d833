"""The words of the lifecycle: its policy, phases, events, actions and state. Pure: data only.

Times are monotonic seconds. Children are numbered: an event about another number changes nothing.
"""

from dataclasses import dataclass
from typing import Literal

from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.exits import Ending


@dataclass(frozen=True, slots=True)
class Policy:
    """How eagerly a server is brought back.

    A child that had been ready starts again at once, ``quick_restarts`` times in ``quick_window_s``.
    After that, and for one that never got ready, the delay doubles from first to max, without end.
    While other programs hold the memory it needs, it is looked at every ``memory_poll_s``; after
    ``memory_wait_s`` something smaller is planned, or a new configuration is given up after
    ``trial_memory_wait_s``. ``drain_timeout_s`` is 0 where no gate knows of requests in flight.
    """

    quick_restarts: int = 5
    quick_window_s: float = 60.0
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    first_probe_s: float = 0.02
    max_probe_s: float = 1.0
    drain_timeout_s: float = 0.0
    on_oom: Literal["degrade", "stop"] = "degrade"
    memory_poll_s: float = 2.0
    memory_wait_s: float = 60.0
    trial_memory_wait_s: float = 5.0

    def delay_s(self, failures: int) -> float:
        """Return the wait before the next try after that many failures in a row."""
        return min(self.first_delay_s * 2.0 ** min(failures - 1, 30), self.max_delay_s)

    def probe_s(self, waited_s: float) -> float:
        """Return the time to the next probe: soon for a quick loader, seldom for a slow one."""
        return min(max(waited_s / 10, self.first_probe_s), self.max_probe_s)


@dataclass(frozen=True, slots=True)
class Child:
    """One incarnation of the server."""

    number: int
    spec: LaunchSpec


@dataclass(frozen=True, slots=True)
class Rejection:
    """A configuration that generated no token, so that the last good one came back."""

    spec: LaunchSpec
    why: Ending
    at: float


# Phases. What is known of the past travels along in State.


@dataclass(frozen=True, slots=True)
class Down:
    """Nothing runs and nothing is wanted."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing runs until a request comes."""


@dataclass(frozen=True, slots=True)
class Starting:
    """The child was spawned at ``since`` and has not generated a token yet."""

    child: Child
    since: float
    probe_at: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The child has generated a token."""

    child: Child
    since: float


@dataclass(frozen=True, slots=True)
class Draining:
    """The child gets no new requests; it may finish the old ones until ``until``."""

    child: Child
    until: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """The child was told to stop. SIGKILL at ``kill_at``, and again every ``stop_timeout_s`` after.

    ``cause`` is the fault this stop answers, None for a wanted stop; ``ready_since`` is when the child
    got ready, None if it never did.
    """

    child: Child
    kill_at: float
    cause: Ending | None = None
    ready_since: float | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Nothing runs; ``spec`` starts again at ``until``."""

    spec: LaunchSpec
    until: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Parked: trying ``spec`` again cannot help until something changes."""

    spec: LaunchSpec


Phase = Down | Idle | Starting | Ready | Draining | Stopping | Backoff | Failed


# Events.


@dataclass(frozen=True, slots=True)
class Want:
    """Run exactly this, or (None) nothing. Said again of a rejected spec, it is tried again."""

    spec: LaunchSpec | None


@dataclass(frozen=True, slots=True)
class Restart:
    """Someone asked for a fresh start, or something changed that a parked child waits for."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The child is gone, or never came to be."""

    number: int
    ending: Ending


@dataclass(frozen=True, slots=True)
class Listening:
    """The child says that it takes requests. It is probed at once; one that says nothing is, in time."""

    number: int


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The child did (or did not) generate a token."""

    number: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Faulty:
    """The child runs, but not so that it can be used: wedged, or not as it was planned."""

    number: int
    ending: Ending


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is in flight any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Sleep:
    """No request came for long; the memory can be used otherwise."""


@dataclass(frozen=True, slots=True)
class Wake:
    """A request came."""


@dataclass(frozen=True, slots=True)
class TimeLost:
    """The machine (or this process) stood still for ``seconds``: nobody's time ran."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tick:
    """The deadline passed."""


Event = Want | Restart | Exited | Listening | TokenAnswer | Faulty | Drained | Sleep | Wake | TimeLost | Tick


# Actions.


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the child."""

    child: Child


@dataclass(frozen=True, slots=True)
class Drain:
    """Forward no new request to the child; ``Drained`` tells when none is in flight."""

    number: int


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask the child to stop."""

    number: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End the child."""

    number: int


@dataclass(frozen=True, slots=True)
class AskToken:
    """Ask the child for a token; the answer comes as ``Probed``."""

    child: Child


@dataclass(frozen=True, slots=True)
class Degrade:
    """Plan something smaller than ``spec``; if there is something, it comes as ``Want``."""

    spec: LaunchSpec
    why: Ending


Action = Spawn | Drain | Terminate | Kill | AskToken | Degrade
Actions = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Everything the decisions depend on. ``want`` is the desired state, ``phase`` the actual one."""

    want: LaunchSpec | None = None
    phase: Phase = Down()
    spawned: int = 0  # children so far; the next one's number is one more
    good: LaunchSpec | None = None  # the last one that generated a token
    rejected: Rejection | None = None  # the wish that generated none, while ``good`` runs in its place
    asleep: bool = False  # wanted, but not before a request comes
    failures: int = 0  # in a row, since a child stayed ready for a quick window
    quick: tuple[float, ...] = ()  # times of restarts without delay, within the last quick window
    short_since: float | None = None  # since when others hold the memory that is needed
    last: Ending | None = None  # the last ending that was not our wish
    endings: tuple[tuple[str, int], ...] = ()  # how often each cause ended a child unwished
