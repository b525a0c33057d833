"""Look at the machine's devices again while one is missed, within bounds: deploy/device_look.py says when."""

import asyncio
from collections.abc import Awaitable, Callable

from qwenctl.daemon.deployment import Deployment
from qwenctl.deploy.device_look import DeviceWait, Ids, after_look, ids_of, next_look_s, waits_for
from qwenctl.deploy.machine import pending
from qwenctl.engine.ask import devices_of
from qwenctl.engine.usability import Unusable
from qwenctl.fetch.clock import in_thread
from qwenctl.supervise import states as st
from qwenctl.supervise.supervisor import Supervisor

Sleep = Callable[[float], Awaitable[None]]
Ask = Callable[[DeviceWait], Awaitable[Ids | None]]


async def list_ids(wait: DeviceWait) -> Ids | None:
    """Ask the engine of a configuration for its devices; None where it cannot say."""
    configuration = wait.configuration
    if configuration is None:
        return None
    path, rpc = configuration.engine.path, configuration.settings.server.rpc
    listed = await in_thread(lambda _: devices_of(path, rpc))
    return None if isinstance(listed, Unusable) else ids_of(listed.devices)


class DeviceWatch:
    """The look at the devices of one daemon. ``lost`` is set when a server has ended without its device."""

    def __init__(self, supervisor: Supervisor, deployment: Deployment) -> None:
        self.lost = asyncio.Event()
        self._supervisor, self._deployment = supervisor, deployment

    async def run(self, sleep: Sleep = asyncio.sleep, ask: Ask = list_ids) -> None:
        """Look while a device is missed. A server that has lost one is planned for at once."""
        looks, before, about = 0, None, None
        while True:
            wait = waits_for(self._deployment.state, self._supervisor.state)
            if wait is None or wait != about:
                looks, before, about = 0, None, wait
            if self.lost.is_set():
                self.lost.clear()
                self._plan()
            if wait is not None and looks > 0:
                now = await ask(wait)
                step = after_look(wait, before, now)
                before = frozenset() if now is None and wait.lost else now
                if step != "nothing":
                    looks = looks if wait.configuration is None else 0
                    await self._go_on(wait, start=step == "start")
            looks += 1
            await self._pause(sleep, next_look_s(looks))

    async def _pause(self, sleep: Sleep, seconds: float) -> None:
        """Wait for the next look, or for a server that loses its device."""
        waits = [asyncio.ensure_future(sleep(seconds)), asyncio.ensure_future(self.lost.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    def _plan(self) -> None:
        if pending(self._deployment.state) is None:
            self._deployment.ask("devices")

    async def _go_on(self, wait: DeviceWait, *, start: bool) -> None:
        """Plan anew; where a server waits for its device, start it then at once."""
        if wait.configuration is None:
            self._deployment.retry()
            return
        self._plan()
        if start:
            await self._deployment.given_over(self._deployment.state.number)
            if isinstance(self._supervisor.state.phase, st.Backoff):
                self._supervisor.post(st.Restart())
