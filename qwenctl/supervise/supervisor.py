"""Carry out what lifecycle decides. The only owner of the child, the clock and the event queue."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable

from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise.child import ChildProcess
from qwenctl.supervise.exits import Ending

log = logging.getLogger(__name__)

Spawner = Callable[[LaunchSpec], Awaitable[ChildProcess]]
Prober = Callable[[LaunchSpec], Awaitable[bool]]


class Supervisor:
    """Runs one server. Only ``run`` changes ``state``; everyone else posts events.

    ``publish`` is called after each change with the state and the child's pid.
    """

    def __init__(
        self,
        policy: lc.Policy,
        spawn: Spawner,
        probe: Prober,
        publish: Callable[[lc.State, int | None], None],
    ) -> None:
        self.state = lc.State()
        self._policy, self._spawn, self._probe, self._publish = policy, spawn, probe, publish
        self._events: asyncio.Queue[lc.Event] = asyncio.Queue()
        self._process: ChildProcess | None = None
        self._probing: asyncio.Task[None] | None = None
        self._closing = False

    def post(self, event: lc.Event) -> None:
        """Take an event; it is handled in its turn."""
        self._events.put_nowait(event)

    async def settled(self) -> None:
        """Wait until every event posted so far has been handled."""
        await self._events.join()

    def close(self) -> None:
        """Stop the child; ``run`` returns when it is gone."""
        self._closing = True
        self.post(lc.Want(None))

    async def run(self) -> None:
        """Handle events until closed and down."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while not (self._closing and isinstance(self.state.phase, lc.Down)):
                    event = await self._next_event()
                    await self._turn(event, tasks)
                    if not isinstance(event, lc.Tick):
                        self._events.task_done()
        finally:
            self._signal(signal.SIGKILL)  # a fault of ours must not leave a server behind

    async def _turn(self, event: lc.Event, tasks: asyncio.TaskGroup) -> None:
        before = self.state
        self.state, actions = lc.step(before, event, time.monotonic(), self._policy)
        if type(before.phase) is not type(self.state.phase):
            log.info("phase=%s was=%s event=%s", *_names(self.state.phase, before.phase, event))
        for action in actions:
            await self._do(action, tasks)
        if self.state != before:
            self._publish(self.state, self._process.pid if self._process else None)

    async def _next_event(self) -> lc.Event:
        due = lc.deadline(self.state)
        try:
            async with asyncio.timeout(None if due is None else max(due - time.monotonic(), 0.0)):
                return await self._events.get()
        except TimeoutError:
            return lc.Tick()

    async def _do(self, action: lc.Action, tasks: asyncio.TaskGroup) -> None:
        match action:
            case lc.Spawn(child):
                try:
                    self._process = await self._spawn(child.spec)
                except OSError as error:
                    reason = (error.strerror or str(error)).lower()
                    summary = f"cannot start {child.spec.argv[0]}: {reason}"
                    self.post(lc.Exited(child.number, Ending("spawn_failed", summary, permanent=True)))
                else:
                    log.info("child=%d pid=%d started", child.number, self._process.pid)
                    tasks.create_task(self._wait(child.number, self._process))
            case lc.Terminate():
                self._signal(signal.SIGTERM)
            case lc.Kill():
                self._signal(signal.SIGKILL)
            case lc.Probe(child):
                if self._probing is None:
                    self._probing = tasks.create_task(self._ask(child))

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.signal(number)

    async def _wait(self, number: int, process: ChildProcess) -> None:
        ending = await process.wait()
        log.info("child=%d pid=%d ended: %s", number, process.pid, ending.summary)
        self._process = None
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
        self.post(lc.Exited(number, ending))

    async def _ask(self, child: lc.Child) -> None:
        try:
            self.post(lc.Probed(child.number, await self._probe(child.spec)))
        finally:
            if self._probing is asyncio.current_task():
                self._probing = None


def _names(*things: object) -> list[str]:
    return [type(thing).__name__.lower() for thing in things]
