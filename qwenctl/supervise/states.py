"""The words of the lifecycle: its phases, events, actions and state. Pure: data only.

Times are monotonic seconds. Children are numbered: an event about another number changes nothing.
"""

from dataclasses import dataclass

from qwenctl.launch.configuration import Configuration
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.exits import Ending


@dataclass(frozen=True, slots=True)
class Child:
    """One incarnation of the server."""

    number: int
    configuration: Configuration

    @property
    def spec(self) -> LaunchSpec:
        """What it was started with."""
        return self.configuration.spec


@dataclass(frozen=True, slots=True)
class Rejection:
    """A configuration that generated no token, so that the last good one came back."""

    configuration: Configuration
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
class Restoring:
    """The child has generated a token; its saved slots come back before requests flow, at most ``until``.

    ``loaded_s`` is the time from its start to its first token.
    """

    child: Child
    since: float
    loaded_s: float
    until: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The child takes requests. ``loaded_s`` is the time from its start to its first token."""

    child: Child
    since: float
    loaded_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Draining:
    """The child gets no new requests; it may finish the old ones until ``until``."""

    child: Child
    until: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """The child was told to stop. SIGKILL at ``kill_at``, and again every ``stop_timeout_s`` after.

    ``cause`` is the fault that led to this stop; None for a wanted stop. ``ready_since`` is when the child
    got ready; None if it never did.
    """

    child: Child
    kill_at: float
    cause: Ending | None = None
    ready_since: float | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Nothing runs; ``configuration`` starts again at ``until``."""

    configuration: Configuration
    until: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Parked: trying ``configuration`` again cannot help until something changes."""

    configuration: Configuration


Phase = Down | Idle | Starting | Restoring | Ready | Draining | Stopping | Backoff | Failed


# Events.


@dataclass(frozen=True, slots=True)
class Want:
    """A person wants this configuration, or nothing (None). Wanting a rejected one again tries it again."""

    configuration: Configuration | None


@dataclass(frozen=True, slots=True)
class Smaller:
    """The planner's answer to ``Degrade``: run this in place of what ran out of memory.

    No person wished for it, so failures go on counting. It changes nothing if something else is to run now.
    """

    instead_of: Configuration
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Restart:
    """Someone asked for a fresh start, or something changed that a parked child waits for."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The child has ended, or could not be started."""

    number: int
    ending: Ending


@dataclass(frozen=True, slots=True)
class Listening:
    """The child's log says that it takes requests, so it is probed now.

    A server that logs nothing is found by the regular probes.
    """

    number: int


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The child did (or did not) generate a token."""

    number: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """The child's saved slots are back, as far as they could be brought back."""

    number: int


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
    """No request has come for a long time, so the child's memory is to be freed."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Whether a request waits at the gate. A level: it holds until the gate says the opposite."""

    held: bool


@dataclass(frozen=True, slots=True)
class TimeLost:
    """The machine, or this process, stood still for ``seconds``. The child could do nothing in that time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that ``deadline`` returned has come."""


FromChild = Exited | Listening | TokenAnswer | Restored | Faulty | Drained
Event = Want | Smaller | Restart | FromChild | Sleep | Demand | TimeLost | Tick


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
    """Ask the child for a token; the answer comes as ``TokenAnswer``."""

    child: Child


@dataclass(frozen=True, slots=True)
class Restore:
    """Bring the child's saved slots back; ``Restored`` tells when that is done."""

    child: Child


@dataclass(frozen=True, slots=True)
class Degrade:
    """Plan something smaller than ``configuration``; if there is something, it comes as ``Smaller``."""

    configuration: Configuration
    why: Ending


Action = Spawn | Drain | Terminate | Kill | AskToken | Restore | Degrade
Actions = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Everything the decisions depend on. ``want`` is the desired state, ``phase`` the actual one."""

    want: Configuration | None = None
    phase: Phase = Down()
    spawned: int = 0  # children so far; the next one's number is one more
    good: Configuration | None = None  # the last one that generated a token
    rejected: Rejection | None = None  # the wish that generated none, while ``good`` runs in its place
    asleep: bool = False  # what is wanted starts when a request comes; never true while one waits
    demand: bool = False  # a request waits at the gate
    failures: int = 0  # in a row, since a child stayed ready for a quick window
    quick: tuple[float, ...] = ()  # times of restarts without delay, within the last quick window
    starts: tuple[float, ...] = ()  # times of all starts within the last starts window
    short_lives: int = 0  # in a row; see Policy
    short_since: float | None = None  # since when others hold the memory that is needed
    last: Ending | None = None  # the last ending that nobody wished for
    endings: tuple[tuple[str, int], ...] = ()  # how many such endings each cause had
