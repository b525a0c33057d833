"""Walk every order in which wishes, their effects and the server's endings can meet.

The machines of deploy and supervise are walked together. What a wish leads to is in its name. Persons want
at most ``asks`` things and the server is killed from outside at most ``kills`` times; the rest happens in
every order.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from qwenctl.deploy import machine
from qwenctl.deploy import states as st
from qwenctl.deploy.types import Draft, ResolvedSettings
from qwenctl.engine.program import Engine, EngineIdentity
from qwenctl.launch.configuration import Configuration
from qwenctl.plan.outcome import MemoryRefusal
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as sv
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.policy import Policy
from tests.fakes.configurations import configuration
from tests.supervise.exploring import CRASH, KILL, OOM, PATIENCE, POLICY

GOOD = ("a", "b", "big")
"""What can be served. "big" runs out of memory, "middle" is next and does so too, then comes "small"."""
SMALLER = {"big": "middle", "middle": "small"}
UNPLANNABLE, NO_HUB, TAKEN, BROKEN = "unplannable", "no hub", "taken", "broken"
REFUSAL = st.Refusal("failed", "cannot")
AS_ASKED = MemoryRefusal("host", 1)


@cache
def config(name: str) -> Configuration:
    """The configuration that serves ``name``."""
    return configuration(name, **PATIENCE)


@cache
def draft(name: str) -> Draft:
    """What planning makes of ``name``; its engine's version carries the name."""
    one = config(name)
    resolved = ResolvedSettings(one.settings, {}, one.profile, Path("/c"), Path("/s"))
    return Draft(resolved, one.hardware, Engine(EngineIdentity(Path("/e"), name), {}), one.plan)


def name_of(one: Configuration | None) -> str | None:
    return None if one is None else one.spec.argv[0]


def wished(wish: st.Wish) -> str:
    """What a wish wants: by its overrides, or the next smaller of what ran out."""
    if wish.instead_of is not None:
        return SMALLER.get(str(name_of(wish.instead_of)), UNPLANNABLE)
    return str((wish.overrides or {}).get("name"))


def planned_as(state: st.ChangeState, wish: st.Wish) -> str:
    """What the plan of a wish that is being fetched serves; a stale one serves what it wanted."""
    match state.stage:
        case st.Fetching(newest, planned) if newest.number == wish.number:
            return planned.server.version
        case _:
            return wished(wish)


@dataclass(frozen=True)
class World:
    """Both machines, and the effects that have not answered yet."""

    deploy: st.ChangeState = field(default_factory=st.ChangeState)
    server: sv.State = field(default_factory=sv.State)
    now: float = 0.0
    plans: tuple[st.Wish, ...] = ()
    transfer: tuple[st.Wish, bool] | None = None  # the wish, and whether it is being cancelled
    opening: tuple[int, str] | None = None
    asks: int = 3
    kills: int = 1
    wishes: tuple[str, ...] = ()  # what was wanted, in this order
    refused: frozenset[str] = frozenset()  # what memory refused, which is never planned again


class Step(NamedTuple):
    """One edge of the walk."""

    before: World
    what: str
    after: World
    deploy_actions: st.Actions
    server_actions: sv.Actions


class Walk:
    """Iterate for every step. ``step`` and ``server_step`` can be replaced, to see that a fault is found."""

    def __init__(
        self,
        names: tuple[str, ...],
        asks: int = 3,
        kills: int = 1,
        step: Callable[[st.ChangeState, st.Event], machine.Outcome] = machine.step,
        policy: Policy = POLICY,
    ) -> None:
        self.names, self.states, self.steps = names, 0, 0
        self.first = World(asks=asks, kills=kills)
        self.step = step
        self.policy = policy
        self.final: list[World] = []

    def __iter__(self) -> Iterator[Step]:
        seen, todo = {_shape(self.first)}, deque([self.first])
        while todo:
            world = todo.popleft()
            quiet = True
            for what, after, done, acted in self._next(world):
                quiet = False
                self.steps += 1
                yield Step(world, what, after, done, acted)
                shape = _shape(after)
                if shape not in seen:
                    seen.add(shape)
                    todo.append(after)
            if quiet:
                self.final.append(world)
        self.states = len(seen)

    def _next(self, world: World) -> Iterator[tuple[str, World, st.Actions, sv.Actions]]:
        if world.asks:
            for name in self.names:
                asked = replace(world, asks=world.asks - 1, wishes=(*world.wishes, name))
                yield self._deploy(asked, st.Asked("up", {"name": name}), f"ask {name}")
        for wish in world.plans:
            rest = replace(world, plans=tuple(one for one in world.plans if one is not wish))
            name = wished(wish)
            while name in world.refused:
                name = SMALLER[name]
            bad = name == UNPLANNABLE
            answer = st.PlanFailed(wish.number, REFUSAL) if bad else st.Planned(wish.number, draft(name))
            yield self._deploy(rest, answer, f"planned {wish.number} {name}")
        if world.transfer is not None:
            yield from self._transferred(world, *world.transfer)
        if world.opening is not None:
            number, name = world.opening
            came = st.OpenFailed(number, REFUSAL) if name == TAKEN else st.Opened(number)
            yield self._deploy(replace(world, opening=None), came, f"opened {number}")
        yield from self._served(world)

    def _transferred(
        self,
        world: World,
        wish: st.Wish,
        cancelled: bool,  # noqa: FBT001 - a fact of the world
    ) -> Iterator[tuple[str, World, st.Actions, sv.Actions]]:
        ended = replace(world, transfer=None)
        if cancelled:
            yield self._deploy(ended, st.TransferEnded(wish.number), f"cancelled {wish.number}")
        name = str(planned_as(world.deploy, wish))
        failed = name == NO_HUB
        came = st.FetchFailed(wish.number, REFUSAL) if failed else st.Fetched(wish.number, config(name))
        what, between, done, acted = self._deploy(ended, came, f"fetched {wish.number}")
        _, after, more, also = self._deploy(between, st.TransferEnded(wish.number), what)
        yield what, after, (*done, *more), (*acted, *also)

    def _served(self, world: World) -> Iterator[tuple[str, World, st.Actions, sv.Actions]]:
        """What the server does, and what time does."""
        child = lc.live(world.server)
        if child is not None:
            number, name = child.number, name_of(child.configuration)
            match world.server.phase:
                case sv.Starting() if name == BROKEN:
                    yield self._server(world, sv.Exited(number, CRASH), "crashes")
                case sv.Starting() if name in SMALLER:
                    yield self._server(world, sv.Exited(number, OOM), "runs out of memory")
                case sv.Starting():
                    yield self._server(world, sv.TokenAnswer(number, True), "gets ready")
                case sv.Draining():
                    yield self._server(world, sv.Drained(number), "is drained")
                case sv.Stopping():
                    yield self._server(world, sv.Exited(number, Ending("killed", "exit 0")), "stops")
                case _:
                    pass
            if world.kills:
                fewer = replace(world, kills=world.kills - 1)
                yield self._server(fewer, sv.Exited(number, KILL), "is killed")
        elif (due := lc.deadline(world.server)) is not None:
            later = replace(world, now=max(world.now, due))
            yield self._server(later, sv.Tick(), "time passes")

    def _deploy(self, world: World, event: st.Event, what: str) -> tuple[str, World, st.Actions, sv.Actions]:
        state, actions = self.step(world.deploy, event)
        world = replace(world, deploy=state)
        acted: sv.Actions = ()
        for action in actions:
            match action:
                case st.PlanWish(wish):
                    world = replace(world, plans=(*world.plans, wish))
                case st.Fetch(wish):
                    assert world.transfer is None, f"two transfers at once: {what}"
                    world = replace(world, transfer=(wish, False))
                case st.CancelFetch():
                    assert world.transfer is not None
                    world = replace(world, transfer=(world.transfer[0], True))
                case st.Open(number, opened):
                    world = replace(world, opening=(number, str(name_of(opened))))
                case st.Try(tried):
                    _, world, _, more = self._server(world, sv.Want(tried), what)
                    acted += more
                case st.Replace(instead_of, tried):
                    _, world, _, more = self._server(world, sv.Smaller(instead_of, tried), what)
                    acted += more
                case st.Remember(ran_out):
                    world = replace(world, refused=world.refused | {str(name_of(ran_out))})
                case _:
                    pass
        return what, world, actions, acted

    def _server(self, world: World, event: sv.Event, what: str) -> tuple[str, World, st.Actions, sv.Actions]:
        server, actions = lc.step(world.server, event, world.now, self.policy)
        world = replace(world, server=server)
        done: st.Actions = ()
        for action in actions:
            if isinstance(action, sv.Degrade):
                _, world, more, _ = self._deploy(world, st.OutOfMemory(action.configuration, AS_ASKED), what)
                done += more
        answer = machine.verdict(world.deploy, world.server)
        if answer is not None:
            _, world, more, _ = self._deploy(world, answer, what)
            done += more
        return what, world, done, actions


def _shape(world: World) -> object:
    """What is left of a world when times count from now, and numbers from the newest."""
    newest = world.deploy.number

    def wish(one: st.Wish | None) -> object:
        return None if one is None else (one.number - newest, wished(one), one.origin)

    def at(time: float) -> float:
        return min(max(time - world.now, -2.0), 2.0)

    deploy, server = world.deploy, world.server
    stage = (type(deploy.stage).__name__, wish(getattr(deploy.stage, "wish", None)))
    trial = deploy.trial and (wish(deploy.trial.wish), name_of(deploy.trial.configuration))
    refused = deploy.refused and (wish(deploy.refused.wish), deploy.refused.rolled_back)
    transfer = None if deploy.transfer is None else deploy.transfer - newest
    waiting = tuple(map(wish, deploy.waiting))
    one = (wish(deploy.planning), waiting, stage, trial, transfer, name_of(deploy.kept), refused)
    child = lc.live(server)
    due = lc.deadline(server)
    rejected = server.rejected and name_of(server.rejected.configuration)
    two = (
        type(server.phase).__name__,
        name_of(child.configuration) if child else None,
        None if due is None else at(due),
        name_of(server.want),
        name_of(server.good),
        rejected,
        min(server.failures, 1),
        tuple(at(time) for time in server.quick if world.now - time < 2.0),
    )
    moving = (
        tuple(sorted(str(wish(plan)) for plan in world.plans)),
        None if world.transfer is None else (wish(world.transfer[0]), world.transfer[1]),
        None if world.opening is None else (world.opening[0] - newest, world.opening[1]),
    )
    return one, two, moving, world.asks, world.kills, world.wishes, world.refused
