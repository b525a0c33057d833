"""Hostile worlds: whatever happened, once the world is calm the server reaches what is wanted."""

import random
from dataclasses import dataclass, field

import pytest

from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import Ending
from tests.supervise.exploring import BAD, BUSY, CRASH, KILL, OOM, POLICY, WEDGE, A, B

WISHES: tuple[st.Event, ...] = (
    st.Want(None),
    st.Want(A),
    st.Want(B),
    st.Restart(),
    st.Sleep(),
    st.Demand(True),
    st.Demand(False),
    st.TimeLost(2.0),
)
ENDINGS = (CRASH, BAD, KILL, BUSY, OOM)


@dataclass
class World:
    """A machine that obeys actions late, twice or not at all, on a clock of its own."""

    chance: random.Random
    hostile: bool = True
    now: float = 0.0
    state: st.State = field(default_factory=st.State)
    alive: dict[int, st.Child] = field(default_factory=dict)
    inbox: list[st.Event] = field(default_factory=list)

    def unlucky(self, one_in: int) -> bool:
        """Something goes wrong, once in so many times; never in a calm world."""
        return self.hostile and self.chance.randrange(one_in) == 0

    def feed(self, event: st.Event) -> None:
        self.state, actions = lc.step(self.state, event, self.now, POLICY)
        for action in actions:
            self.obey(action)

    def obey(self, action: st.Action) -> None:  # noqa: C901 - one case an action
        match action:
            case st.Spawn(child):
                assert not self.alive, "two servers at once"
                if self.unlucky(6):
                    self.inbox.append(st.Exited(child.number, self.chance.choice(ENDINGS)))
                else:
                    self.alive[child.number] = child
            case st.Terminate(number):
                if not self.unlucky(4):
                    self.end(number, Ending("killed", "exit 0"))
            case st.Kill(number):
                if not self.unlucky(3):
                    self.end(number, KILL)
            case st.AskToken(child):
                self.inbox += [st.TokenAnswer(child.number, not self.unlucky(4))] * self.answers()
            case st.Drain(number):
                self.inbox += [st.Drained(number)] * self.answers()
            case st.Restore(child):
                self.inbox += [st.Restored(child.number)] * self.answers()
            case st.Degrade(worse, _):
                if self.unlucky(2):
                    self.inbox.append(st.Smaller(worse, self.chance.choice((A, B))))

    def answers(self) -> int:
        """How often an answer arrives."""
        return self.chance.choice((0, 1, 1, 2)) if self.hostile else 1

    def end(self, number: int, ending: Ending) -> None:
        if self.alive.pop(number, None) is not None:
            self.inbox.append(st.Exited(number, ending))

    def turn(self) -> None:
        for number in list(self.alive):
            if self.unlucky(8):
                self.end(number, self.chance.choice(ENDINGS))
            elif self.unlucky(8):
                self.inbox.append(st.Faulty(number, WEDGE))
        if self.inbox and not self.unlucky(4):
            late = self.chance.randrange(len(self.inbox)) if self.unlucky(3) else 0
            self.feed(self.inbox.pop(late))
            return
        due = lc.deadline(self.state)
        self.now = self.now + 1.0 if due is None else max(self.now, due)
        self.feed(st.Tick())


@pytest.mark.parametrize("seed", range(300))
def test_once_the_faults_stop_the_server_reaches_what_is_wanted(seed: int) -> None:
    world = World(random.Random(seed))
    for _ in range(200):
        if world.unlucky(12):
            world.feed(world.chance.choice(WISHES))
        world.turn()
    world.hostile = False
    for wanted in (A, B, None, A):
        world.feed(st.Want(wanted))
        world.feed(st.Restart())
        for _ in range(100):
            world.turn()
        if wanted is None:
            assert isinstance(world.state.phase, st.Down)
            assert not world.alive
        else:
            assert isinstance(world.state.phase, st.Ready)
            assert [child.configuration for child in world.alive.values()] == [wanted]


@pytest.mark.parametrize("seed", range(100))
def test_without_a_person_only_a_permanent_fault_keeps_the_server_down(seed: int) -> None:
    world = World(random.Random(seed))
    world.feed(st.Want(A))
    for _ in range(200):
        world.turn()
    world.hostile = False
    for _ in range(100):
        world.turn()
    assert isinstance(world.state.phase, st.Ready | st.Failed)
    if isinstance(world.state.phase, st.Failed):
        assert world.state.last == BAD
