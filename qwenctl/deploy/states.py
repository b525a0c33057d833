"""The words of a change: its wish, stages, events, actions and state. Pure: data only.

A wish is what somebody wants to be served; it is numbered. A newer wish replaces an older one wherever that
stands, as soon as the newer one can be planned. An event about another number changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from qwenctl.deploy.types import Draft
from qwenctl.engine.program import EngineIdentity
from qwenctl.launch.configuration import Configuration
from qwenctl.plan.outcome import MemoryRefusal

Origin = Literal["start", "up", "file", "reload", "engine", "memory", "devices"]
"""Where a wish comes from: the start, ``up``, a saved file, a reload, an engine, out of memory, a card."""
FROM_FILE: frozenset[Origin] = frozenset({"file", "reload"})


@dataclass(frozen=True, slots=True)
class Wish:
    """Something to be served, by the flags of ``up`` (None: those kept), or less than ``instead_of``."""

    number: int
    origin: Origin
    overrides: Mapping[str, object] | None = None
    instead_of: Configuration | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a wish is not served. ``code`` is that of the JSON envelope; ``passing``: trying later can help."""

    code: str
    message: str
    hint: str | None = None
    passing: bool = False
    data: object = None


# Stages of the newest wish that could be planned, until the supervisor has it.


@dataclass(frozen=True, slots=True)
class Rest:
    """No wish is on its way."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """The wish is planned; its model file is fetched, or waits until an older transfer has ended."""

    wish: Wish
    draft: Draft


@dataclass(frozen=True, slots=True)
class Opening:
    """The model file is here; the address of the endpoint is opened before anything is stopped."""

    wish: Wish
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class OnTrial:
    """The supervisor runs the configuration; it counts once it has generated a token."""

    wish: Wish
    configuration: Configuration


Stage = Rest | Fetching | Opening


@dataclass(frozen=True, slots=True)
class Refused:
    """The newest wish that is not served, and why. ``rolled_back``: it had been started."""

    wish: Wish
    why: Refusal
    rolled_back: bool = False


# Events.


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants something."""

    origin: Origin
    overrides: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """The wish has a plan; all that can be known beforehand was checked."""

    number: int
    draft: Draft


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The saved file says what it said before, so that nothing is to be done."""

    number: int


@dataclass(frozen=True, slots=True)
class PlanFailed:
    """The wish leads nowhere."""

    number: int
    why: Refusal


@dataclass(frozen=True, slots=True)
class Fetched:
    """The model file is here and verified."""

    number: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """The model file cannot be had now; what has arrived is kept."""

    number: int
    why: Refusal


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """The transfer of this wish has ended, whatever came of it: another one may begin."""

    number: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The endpoint's address is open, or will be as soon as the old server has left it."""

    number: int


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """The endpoint's address cannot be had."""

    number: int
    why: Refusal


@dataclass(frozen=True, slots=True)
class Proved:
    """The supervisor's configuration has generated a token."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Rejected:
    """It generated no token. ``refuses_engine``: its engine is at fault; ``instead`` is back, if one is."""

    configuration: Configuration
    why: Refusal
    refuses_engine: bool = False
    instead: EngineIdentity | None = None


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """Memory ran out under this configuration; ``refusal`` says where, and at how many bytes."""

    configuration: Configuration
    refusal: MemoryRefusal


@dataclass(frozen=True, slots=True)
class RetryDue:
    """Some time has passed: what was refused for a passing reason may work now."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The daemon ends."""


Answer = Planned | Unchanged | PlanFailed | Fetched | FetchFailed | TransferEnded | Opened | OpenFailed
Event = Asked | Answer | Proved | Rejected | OutOfMemory | RetryDue | Closed


# Actions.


@dataclass(frozen=True, slots=True)
class PlanWish:
    """Plan the wish: ``Planned``, ``Unchanged`` or ``PlanFailed`` answers."""

    wish: Wish


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get the model file: ``Fetched`` or ``FetchFailed`` answers, and then ``TransferEnded``."""

    wish: Wish
    draft: Draft


@dataclass(frozen=True, slots=True)
class CancelFetch:
    """End the transfer of this wish; ``TransferEnded`` answers."""

    number: int


@dataclass(frozen=True, slots=True)
class Open:
    """Open the address: ``Opened`` or ``OpenFailed`` answers."""

    number: int
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Try:
    """Let the supervisor run the configuration: ``Proved`` or ``Rejected`` may answer."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Replace:
    """Let the supervisor run something smaller in place of what ran out of memory."""

    instead_of: Configuration
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Keep:
    """It has generated a token: keep the wish's overrides."""

    wish: Wish
    configuration: Configuration


@dataclass(frozen=True, slots=True)
class Remember:
    """Remember what memory refused, so that no plan needs as much again."""

    configuration: Configuration
    refusal: MemoryRefusal


@dataclass(frozen=True, slots=True)
class StartAnyway:
    """There is nothing smaller, and why: start it although memory is short."""

    configuration: Configuration
    why: Refusal


@dataclass(frozen=True, slots=True)
class RefuseEngine:
    """Keep that this engine did not work here. ``instead`` is in force again; None: another must be found."""

    engine: EngineIdentity
    instead: EngineIdentity | None
    why: Refusal
    overrides: Mapping[str, object] | None = None


Action = PlanWish | Fetch | CancelFetch | Open | Try | Replace | Keep | Remember | StartAnyway | RefuseEngine
Actions = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class ChangeState:
    """Everything the decisions depend on."""

    number: int = 0  # of the newest wish
    origin: Origin = "start"  # of the newest wish
    planning: Wish | None = None  # the newest wish, while it is planned; the stage goes on meanwhile
    waiting: tuple[Wish, ...] = ()  # older ones not planned yet, newest first: their turn if it is refused
    stage: Stage = Rest()
    trial: OnTrial | None = None  # what the supervisor was given last, until it is proved or rejected
    transfer: int | None = None  # the wish whose transfer runs, or is being ended
    kept: Configuration | None = None  # the last one that generated a token
    kept_number: int = 0  # the wish it came from
    refused: Refused | None = None  # the newest wish that is not served; None once a newer one can be planned
    config_error: str | None = None  # what is wrong with the file of the settings
    closed: bool = False
