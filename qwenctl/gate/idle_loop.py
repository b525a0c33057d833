"""Do what is due while nobody uses the model: look at slots, save them, unload; end stalled connections."""

import asyncio
import contextlib
from collections.abc import Callable

from qwenctl.gate.idle_tasks import DueTasks, IdleWaits, due
from qwenctl.gate.options import GateOptions
from qwenctl.gate.proxy import Proxy
from qwenctl.gate.slots.save_control import SaveControl
from qwenctl.gate.upstream import Admission
from qwenctl.gate.waiting_queue import WaitingQueue


class IdleLoop:
    """One loop for the life of the gate. ``news`` is set whenever the answer of ``due`` may have changed."""

    def __init__(
        self,
        queue: WaitingQueue,
        proxy: Proxy,
        slots: SaveControl,
        unload: Callable[[], None],
        news: asyncio.Event,
    ) -> None:
        self._queue, self._proxy, self._slots = queue, proxy, slots
        self._unload, self._news = unload, news
        self._waits = IdleWaits(0.0, 0.0, 0.0)
        self._saved_idle: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run from now on, if it does not yet."""
        if self._task is None:
            self._task = asyncio.create_task(self.run())

    async def stop(self) -> None:
        """Do nothing more, until it is started again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def configure(self, options: GateOptions) -> None:
        """Use other waits from now on."""
        waits = IdleWaits(options.idle_unload_s, options.warm_after_s, options.limits.stall_s)
        if waits != self._waits:
            self._waits = waits
            self._news.set()

    async def run(self) -> None:
        """Ask what is due, do it, wait for news or for the next time; until cancelled."""
        while True:
            tasks = self._due(asyncio.get_running_loop().time())
            state = self._queue.state
            if tasks.stall_before is not None:
                self._proxy.disconnect_stalled(tasks.stall_before)
            if tasks.look:
                await self._slots.look(state)
            if tasks.save:
                await self._slots.save_idle(state)
            if tasks.unload:
                self._unload()
            await self._wait(tasks.again_at)

    def _due(self, now: float) -> DueTasks:
        served = self._queue.admission() is Admission.GO
        idle_since = self._proxy.idle_since if served else None
        busy = self._proxy.in_flight.count > 0
        tasks, saved = due(now, idle_since, self._saved_idle, self._waits, busy=busy)
        self._saved_idle = idle_since if saved else self._saved_idle
        return tasks

    async def _wait(self, until: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._news.wait()
        self._news.clear()
