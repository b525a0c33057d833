"""What goes on beside the server: watching its files, asking for newer ones, keeping the folder whole."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path

from qwenctl import paths
from qwenctl.control import state_dir
from qwenctl.daemon.control_server import Listener
from qwenctl.daemon.deployment import Changes
from qwenctl.daemon.descriptors import descriptors_left
from qwenctl.daemon.file_watch import changed, config_changes
from qwenctl.daemon.sd_notify import Notifier
from qwenctl.daemon.status import Known
from qwenctl.deploy import model_file
from qwenctl.errors import QwenctlError
from qwenctl.supervise import states as st
from qwenctl.supervise.supervisor import Supervisor

log = logging.getLogger(__name__)

LOOK_AFTER_S = 10.0
PARKED_POLL_S = 2.0
REFUSED_RETRY_S = 60.0
NEWER_AFTER_S, NEWER_EVERY_S = 60.0, 86400.0


class Upkeep:
    """The loops that run as long as the supervisor. Each waits for one thing and says what came of it."""

    def __init__(
        self,
        folder: Path,
        changes: Changes,
        supervisor: Supervisor,
        known: Known,
        notifier: Notifier,
        publish: Callable[[], None],
        mend: Callable[[], None],
    ) -> None:
        self._folder, self._changes, self._supervisor = folder, changes, supervisor
        self._known, self._notifier, self._publish, self._mend = known, notifier, publish, mend
        self.reload_wanted, self.parked = asyncio.Event(), asyncio.Event()

    def loops(self, listener: Listener) -> tuple[Coroutine[None, None, None], ...]:
        """Return the loops. None of them ends by itself."""
        return (
            self._watch_config(),
            self._reload_on_signal(),
            self._watch_parked(),
            self._look_after(listener),
            self._retry_refused(),
            self._look_for_newer(),
        )

    async def _watch_config(self) -> None:
        async for _ in config_changes(self._known.config, paths.config_dir() / "profiles"):
            await self._reload(if_changed=True)

    async def _reload_on_signal(self) -> None:
        while True:
            await self.reload_wanted.wait()
            self.reload_wanted.clear()
            self._notifier.reloading()
            await self._reload(if_changed=False)
            self._notifier.ready()

    async def _reload(self, *, if_changed: bool) -> None:
        try:
            await self._changes.reload(if_changed=if_changed)
        except QwenctlError as error:
            log.warning("%s", error.message)

    async def _watch_parked(self) -> None:
        """A parked server is tried again when one of its files was replaced."""
        while True:
            await self.parked.wait()
            self.parked.clear()
            phase = self._supervisor.state.phase
            if isinstance(phase, st.Failed):
                named = tuple(Path(word) for word in phase.spec.argv if word.startswith("/"))
                await changed(named, PARKED_POLL_S)
                if isinstance(self._supervisor.state.phase, st.Failed):
                    self._supervisor.post(st.Restart())

    async def _retry_refused(self) -> None:
        """Try again what was refused: the network may be back, a binary installed."""
        while True:
            await asyncio.sleep(REFUSED_RETRY_S)
            if self._known.refused is not None:
                await self._reload(if_changed=False)

    async def _look_for_newer(self) -> None:
        """Ask the hub once a day whether there is something newer. The status says so; nothing moves."""
        await asyncio.sleep(NEWER_AFTER_S)
        while True:
            choice = self._changes.of(self._supervisor.state.want)
            self._known.newer_commit = await model_file.newer(choice.prepared) if choice is not None else None
            self._publish()
            await asyncio.sleep(NEWER_EVERY_S)

    async def _look_after(self, listener: Listener) -> None:
        """Put back what others removed from the folder, and keep the troubles in the status true."""
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            before = self._known.wrong()
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                await listener.listen()
                self._known.troubles["socket"] = None
            except OSError as error:
                self._known.troubles["socket"] = (
                    f"cannot listen on {state_dir.CONTROL_SOCKET}: {error.strerror}"
                )
            self._known.troubles["descriptors"] = descriptors_left()
            self._mend()
            if self._known.wrong() != before or before or not (self._folder / state_dir.STATUS).exists():
                self._publish()
