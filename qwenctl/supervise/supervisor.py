"""Carry out what lifecycle decides. The only owner of the child, the clock and the event queue."""

import asyncio
import errno
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from qwenctl import files
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.child import ChildProcess
from qwenctl.supervise.device_faults import cannot_compute, refused_to_compute
from qwenctl.supervise.exits import TAIL_LINES, Ending
from qwenctl.supervise.policy import Policy
from qwenctl.supervise.wedge import ServerSample, WedgeLimits, WedgeWatch, judge, wedge_limits

log = logging.getLogger(__name__)

STOOD_STILL_S = 10.0
"""If a timer fires this much too late, the machine slept or this process was stopped."""
MOST_REFUSALS = 2
"""So often a server that starts may say that it cannot compute. With the next time it is ended."""
MOST_PATIENCE = 2.0
"""So many times the usual limits are waited at most, if ending a wedged server did not help."""
SHORT_OF_SOMETHING = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ETXTBSY, errno.EIO)
"""Errors that may pass by themselves, so the start is tried again."""


class NotStartedError(Exception):
    """The child was not started; ``ending`` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.summary)
        self.ending = ending


def limits_of(spec: LaunchSpec) -> WedgeLimits:
    """Return how long the server of ``spec`` may go without progress."""
    return wedge_limits(spec.wedge_after_s)


@dataclass(frozen=True, slots=True)
class Effects:
    """What the supervisor does to the world. Passed in, so that a test can pass its own.

    ``spawn`` may raise ``OSError`` or ``NotStartedError``; ``probe`` and ``measure`` get the seconds they may
    take; ``refusal`` asks for a token and returns what came in its place, None if nothing did; ``publish`` is
    called after each change with the state before, the state, and the child's pid.
    """

    spawn: Callable[[st.Child], Awaitable[ChildProcess]]
    probe: Callable[[st.Child, float], Awaitable[bool]]
    restore: Callable[[st.Child], Awaitable[None]]
    measure: Callable[[st.Child, int, float], Awaitable[ServerSample]]
    publish: Callable[[st.State, st.State, int | None], None]
    degrade: Callable[[Configuration, Ending], None]
    drain: Callable[[st.Child], None]
    refusal: Callable[[st.Child, float], Awaitable[str | None]]


class Supervisor:
    """Runs one server. Only ``run`` changes ``state``; everyone else posts events."""

    def __init__(
        self,
        effects: Effects,
        policy: Policy,
        good: Configuration | None = None,
        limits: Callable[[LaunchSpec], WedgeLimits] = limits_of,
    ) -> None:
        """Make a supervisor that runs nothing yet.

        ``good`` generated a token under an earlier daemon: it comes back if the first wish generates none.
        ``limits`` says how long a server may go without progress; it is asked before each look at it.
        """
        self.state = st.State(good=good)
        self._policy, self._limits = policy, limits
        self._effects = effects
        self._events: asyncio.Queue[st.Event] = asyncio.Queue()
        self._process: ChildProcess | None = None
        self._asking: asyncio.Task[None] | None = None  # probes it, or watches it once it is ready
        self._patience = 1.0  # with a child that has not made progress since another one was ended as wedged
        self._refusals = 0  # of a child that starts: so often it said that it cannot compute
        self._closing = False

    @property
    def process(self) -> ChildProcess | None:
        """The child, while it runs."""
        return self._process

    def adopt(self, state: st.State, process: ChildProcess | None, lost: Ending) -> None:
        """Go on where an earlier program was; before ``run``. ``lost`` is the end of a child that is gone."""
        self.state, self._process = state, process
        child = lc.live(state)
        if child is not None and process is None:
            self.post(st.Exited(child.number, lost))

    def post(self, event: st.Event) -> None:
        """Take an event; it is handled in its turn."""
        self._events.put_nowait(event)

    async def examine(self, number: int, fault: str) -> bool:
        """Ask a child whose answers say ``fault`` for a token, and end it if it refuses that as well.

        Return whether it serves no more. One that says nothing may be busy: ``wedge`` judges that.
        """
        match self.state.phase:
            case st.Ready(child=child) if child.number == number:
                pass
            case _:
                return True
        refused = await self._effects.refusal(child, self._limits(child.spec).probe_timeout_s)
        if refused is None or lc.live(self.state) != child:
            return lc.live(self.state) != child
        log.warning("child=%d answers %r, and %r for a token", number, fault, refused)
        self._blame(child, fault)
        await self.settled()
        return True

    async def settled(self) -> None:
        """Wait until every event posted so far has been handled."""
        await self._events.join()

    def close(self) -> None:
        """Stop the child; ``run`` returns when it is gone."""
        self._closing = True
        self.post(st.Want(None))

    async def run(self) -> None:
        """Handle events until closed and down."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._watch_adopted(tasks)
                while not (self._closing and isinstance(self.state.phase, st.Down)):
                    event = await self._next_event()
                    await self._turn(event, tasks)
                    if not isinstance(event, st.Tick):
                        self._events.task_done()
        finally:
            self._signal(signal.SIGKILL)  # a bug of ours must not leave a server behind

    def _watch_adopted(self, tasks: asyncio.TaskGroup) -> None:
        process = self._process
        match self.state.phase:
            case st.Ready(child=child) if process is not None:
                tasks.create_task(self._wait(child.number, process))
                self._asking = tasks.create_task(self._watch(child, process.pid))
            case _:
                pass

    async def _turn(self, event: st.Event, tasks: asyncio.TaskGroup) -> None:
        before = self.state
        self.state, actions = lc.step(before, event, time.monotonic(), self._policy)
        if type(before.phase) is not type(self.state.phase):
            log.info("phase=%s was=%s event=%s", *_names(self.state.phase, before.phase, event))
        for action in actions:
            await self._do(action, tasks)
        match self.state.phase:
            case st.Ready(child=child) if not isinstance(before.phase, st.Ready) and self._process:
                self._asking = tasks.create_task(self._watch(child, self._process.pid))
            case _:
                pass
        if _is_news(before, self.state):
            self._effects.publish(before, self.state, self._process.pid if self._process else None)

    async def _next_event(self) -> st.Event:
        due, before = lc.deadline(self.state), time.monotonic()
        patience = None if due is None else max(due - before, 0.0)
        try:
            async with asyncio.timeout(patience):
                return await self._events.get()
        except TimeoutError:
            late = time.monotonic() - before - (patience or 0.0)
            if late < STOOD_STILL_S:
                return st.Tick()
            self.post(st.TimeLost(late))
            return await self._events.get()

    async def _do(self, action: st.Action, tasks: asyncio.TaskGroup) -> None:
        match action:
            case st.Spawn(child):
                await self._start(child, tasks)
            case st.Drain():
                leaving = lc.live(self.state)
                if leaving is not None:
                    self._effects.drain(leaving)
            case st.Terminate():
                self._signal(signal.SIGTERM)
            case st.Kill():
                self._signal(signal.SIGKILL)
            case st.AskToken(child):
                if self._asking is None:
                    self._asking = tasks.create_task(self._ask(child))
            case st.Restore(child):
                self._asking = tasks.create_task(self._restore(child))
            case st.Degrade(configuration, why):
                self._effects.degrade(configuration, why)

    async def _start(self, child: st.Child, tasks: asyncio.TaskGroup) -> None:
        try:
            self._process = await self._effects.spawn(child)
        except NotStartedError as error:
            self.post(st.Exited(child.number, error.ending))
        except OSError as error:
            reason = files.reason(error)
            summary = f"cannot start {child.spec.argv[0]}: {reason}"
            permanent = error.errno not in SHORT_OF_SOMETHING
            log.warning("child=%d %s", child.number, summary)
            self.post(st.Exited(child.number, Ending("spawn_failed", summary, permanent)))
        else:
            log.info("child=%d pid=%d started", child.number, self._process.pid)
            self._refusals = 0
            tasks.create_task(self._wait(child.number, self._process))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)

    async def _wait(self, number: int, process: ChildProcess) -> None:
        ending = await process.wait()
        log.info("child=%d pid=%d ended: %s", number, process.pid, ending.summary)
        self._process = None
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self.post(st.Exited(number, ending))

    async def _ask(self, child: st.Child) -> None:
        try:
            ok = await self._effects.probe(child, child.spec.ready_timeout_s)
            self.post(st.TokenAnswer(child.number, ok))
            self._refusals = 0 if ok else self._refusals + await self._refuses(child)
        finally:
            if self._asking is asyncio.current_task():
                self._asking = None

    async def _refuses(self, child: st.Child) -> bool:
        """Return whether a child that loaded cannot compute. One that goes on so is ended: it never can."""
        said = await self._effects.refusal(child, self._limits(child.spec).probe_timeout_s)
        fault = refused_to_compute(said)
        if fault is not None and self._refusals >= MOST_REFUSALS:
            self._blame(child, fault)
            self._refusals = 0
        return fault is not None

    def _blame(self, child: st.Child, fault: str) -> None:
        """Have a child ended that cannot compute."""
        process, devices = self._process, child.configuration.plan.devices
        if process is not None:
            tail = tuple(process.said().splitlines()[-TAIL_LINES:])
            self.post(st.Faulty(child.number, cannot_compute(fault, tail, devices, process.context)))

    async def _restore(self, child: st.Child) -> None:
        try:
            await self._effects.restore(child)
        finally:
            self.post(st.Restored(child.number))

    async def _watch(self, child: st.Child, pid: int) -> None:
        """Sample a ready child while it runs, and report it once it is wedged."""
        limits = self._limits(child.spec)
        first = await self._effects.measure(child, pid, limits.sample_s)
        watch = WedgeWatch(first, patience=self._patience)
        while True:
            configuration = lc.in_force(self.state) or child.configuration  # an edit needs no restart
            limits = self._limits(configuration.spec)
            await asyncio.sleep(limits.sample_s)
            sample = await self._effects.measure(child, pid, limits.sample_s)
            watch, verdict = judge(watch, sample, limits)
            if verdict == "suspect" and await self._effects.probe(child, limits.probe_timeout_s):
                watch, verdict = watch.cleared(), "calm"
            self._patience = watch.patience
            if verdict == "calm":
                continue
            silent_s, patience_s = watch.work_s, limits.probe_timeout_s
            summary = f"wedged: no progress for {silent_s:.0f} s, and no token within {patience_s:g} s"
            self._patience = min(2 * watch.patience, MOST_PATIENCE)
            self.post(st.Faulty(child.number, Ending("wedged", summary)))
            return


def _is_news(before: st.State, after: st.State) -> bool:
    """Return whether more differs than the time of the next probe, which each probe of a start moves."""
    match before.phase, after.phase:
        case st.Starting(probe_at=probe_at), st.Starting() as phase:
            after = replace(after, phase=replace(phase, probe_at=probe_at))
        case _:
            pass
    return after != before


def _names(*things: object) -> list[str]:
    return [type(thing).__name__.lower() for thing in things]
