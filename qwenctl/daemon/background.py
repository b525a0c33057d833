"""The loops beside the server: watch its files, ask for newer ones, keep the folder whole, feed the watchdog.

Each is run by ``isolation.keep_running``: one that fails is started again and never ends the daemon.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from qwenctl import paths
from qwenctl.control import state_dir
from qwenctl.daemon.control_server import Listener
from qwenctl.daemon.deployment import Deployment
from qwenctl.daemon.descriptors import descriptors_left
from qwenctl.daemon.device_watch import DeviceWatch
from qwenctl.daemon.file_watch import changed, config_changes
from qwenctl.daemon.publisher import Publisher
from qwenctl.daemon.sd_notify import Notifier
from qwenctl.daemon.troubles import Troubles
from qwenctl.deploy import model_file
from qwenctl.deploy.machine import pending
from qwenctl.engine.builds.installed_engines import chosen
from qwenctl.engine.program_files import stamp
from qwenctl.errors import QwenctlError
from qwenctl.files import reason
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.supervisor import Supervisor

log = logging.getLogger(__name__)

LOOK_AFTER_S = 10.0
PARKED_POLL_S = 2.0
ENGINE_POLL_S = 2.0
RETRY_REFUSED_S = 60.0
NEWER_AFTER_S, NEWER_EVERY_S = 60.0, 86400.0

Loop = Callable[[], Awaitable[None]]


class BackgroundLoops:
    """The loops of one daemon. None of them ends by itself."""

    def __init__(
        self,
        folder: Path,
        config: Path,
        supervisor: Supervisor,
        deployment: Deployment,
        publisher: Publisher,
        troubles: Troubles,
        notifier: Notifier,
    ) -> None:
        self.reload_wanted, self.parked = asyncio.Event(), asyncio.Event()
        self.devices = DeviceWatch(supervisor, deployment)
        self._folder, self._config, self._supervisor = folder, config, supervisor
        self._deployment, self._publisher = deployment, publisher
        self._troubles, self._notifier = troubles, notifier

    def loops(self, listener: Listener) -> dict[str, Loop]:
        """Return the loops by the names under which a failure is told."""
        return {
            "watching the settings": self._watch_config,
            "reloading the settings": self._reload_on_signal,
            "watching a parked server": self._watch_parked,
            "watching the engine": self._watch_engine,
            "looking after the state folder": lambda: self._look_after(listener),
            "retrying what was refused": self._retry_refused,
            "looking at the devices": self.devices.run,
            "asking for a newer model": self._look_for_newer,
            "feeding the watchdog": self._feed_watchdog,
        }

    async def _watch_config(self) -> None:
        async for _ in config_changes(self._config, paths.config_dir() / "profiles"):
            self._deployment.ask("file")

    async def _reload_on_signal(self) -> None:
        while True:
            await self.reload_wanted.wait()
            self.reload_wanted.clear()
            self._notifier.reloading()
            try:
                await self._deployment.planned(self._deployment.ask("reload"))
            except QwenctlError as error:
                log.warning("%s", error.message)
            self._notifier.ready()

    async def _watch_parked(self) -> None:
        """A parked server is tried again when one of its files was replaced."""
        while True:
            await self.parked.wait()
            self.parked.clear()
            phase = self._supervisor.state.phase
            if isinstance(phase, st.Failed):
                argv = phase.configuration.spec.argv
                await changed(tuple(Path(word) for word in argv if word.startswith("/")), PARKED_POLL_S)
                if isinstance(self._supervisor.state.phase, st.Failed):
                    self._supervisor.post(st.Restart())

    async def _watch_engine(self) -> None:
        """Plan again when another engine was chosen, or the files of the one in use were replaced.

        Files may be replaced one by one: they must be the same for two looks. While a wish is on its way
        nothing is asked, because it may be about that engine.
        """
        before, asked = self._engine_now(), None
        while True:
            await asyncio.sleep(ENGINE_POLL_S)
            now = self._engine_now()
            if now == before and now not in (None, asked) and pending(self._deployment.state) is None:
                asked = now
                self._deployment.ask("engine")
            before = now

    def _engine_now(self) -> tuple[str | None, str | None] | None:
        """Return what is chosen and what the files are, where either is not what is in force."""
        configuration = lc.in_force(self._supervisor.state)
        if configuration is None:
            return None
        engine = configuration.engine
        current, files = chosen(paths.engines_dir()).current, stamp(engine.path)
        others = current is not None and current != engine.name
        return (current, files) if others or files not in (None, engine.fingerprint) else None

    async def _retry_refused(self) -> None:
        """Try again what was refused: the network may be back, a binary installed."""
        while True:
            await asyncio.sleep(RETRY_REFUSED_S)
            self._deployment.retry()

    async def _look_for_newer(self) -> None:
        """Ask the hub once a day whether there is something newer. The status says so; nothing moves."""
        await asyncio.sleep(NEWER_AFTER_S)
        while True:
            configuration = lc.in_force(self._supervisor.state)
            newer = await model_file.newer_than(configuration) if configuration is not None else None
            self._publisher.newer_commit = newer
            self._publisher.publish()
            await asyncio.sleep(NEWER_EVERY_S)

    async def _look_after(self, listener: Listener) -> None:
        """Put back what others removed from the folder, and keep the troubles in the status true."""
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            before = self._troubles.all()
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                await listener.listen()
                self._troubles.set("control socket", None)
            except OSError as error:
                text = f"cannot listen on {state_dir.CONTROL_SOCKET}: {reason(error)}"
                self._troubles.set("control socket", text)
            self._troubles.set("descriptors", descriptors_left())
            self._publisher.mend()
            if self._troubles.all() != before or before or not (self._folder / state_dir.STATUS).exists():
                self._publisher.publish()

    async def _feed_watchdog(self) -> None:
        """Say that the daemon lives, as often as all events so far were handled: that is its progress."""
        while self._notifier.ping_every_s is not None:
            await self._supervisor.settled()
            self._notifier.alive()
            await asyncio.sleep(self._notifier.ping_every_s)
        await asyncio.Event().wait()
