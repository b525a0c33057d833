"""The daemon: puts its parts together, runs them, and closes them in order. The composition root.

The supervisor, the gate and the control socket run from the first moment to the last. Everything else is
beside them and cannot end them.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from qwenctl import __version__, paths
from qwenctl.control import log_files, state_dir
from qwenctl.daemon.adoption import Adoption
from qwenctl.daemon.background import BackgroundLoops
from qwenctl.daemon.child_record import reap_leftover
from qwenctl.daemon.control_server import Listener, serve
from qwenctl.daemon.daemon_parts import DaemonParts
from qwenctl.daemon.deployment import Deployment
from qwenctl.daemon.descriptors import raise_descriptor_limit
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.gateway import Gateway
from qwenctl.daemon.isolation import contained, contained_now, describe, keep_running
from qwenctl.daemon.new_program import is_launchd_job, take_signals
from qwenctl.daemon.publisher import Publisher
from qwenctl.daemon.reexec import Reexecution
from qwenctl.daemon.sd_notify import Notifier
from qwenctl.daemon.server_effects import ServerEffects
from qwenctl.daemon.socket_activation import passed_sockets
from qwenctl.daemon.status import stop_timeout_s
from qwenctl.daemon.troubles import Troubles
from qwenctl.deploy.good_record import read_good
from qwenctl.deploy.pipeline import config_path
from qwenctl.deploy.refusals import error_of, refusal_of_bug
from qwenctl.deploy.types import PlanRequest
from qwenctl.errors import ControlError, QwenctlError
from qwenctl.fetch.clock import in_thread
from qwenctl.launch.configuration import Configuration
from qwenctl.settings.load import api_keys
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import GPU_LOST, Ending
from qwenctl.supervise.logfile import LogFile
from qwenctl.supervise.policy import Policy
from qwenctl.supervise.supervisor import Supervisor

log = logging.getLogger(__name__)

LOG_LINE, LOG_TIME = "%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"


async def run(request: PlanRequest, notifier: Notifier, document: int | None = None) -> None:
    """Serve until told to stop. ``document``: the open file with the state of a program before this one.

    Raises:
        SettingsError: they are wrong; nothing was started.
        QwenctlError: the first plan cannot be made, and there is no service manager to park under.
    """
    socket = paths.socket_path(request.folder, state_dir.CONTROL_SOCKET)
    folder = paths.private_dir(request.folder)
    os.umask(0o077)
    adoption = Adoption.of(document) if document is not None else None
    with state_dir.lock(folder) if adoption is None else await adoption.hold(folder) as held:
        daemon = Daemon(request, notifier, adoption)
        try:
            async with serve(daemon, socket, adoption.listening() if adoption else None) as listener:
                await daemon.run(listener, held.fileno())
        finally:
            for name in (state_dir.STATUS, state_dir.CHILD):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()


class Daemon:
    """One supervised server, its status and its commands."""

    def __init__(self, request: PlanRequest, notifier: Notifier, adoption: Adoption | None = None) -> None:
        """Put the parts together. ``adoption``: a program before this one has passed on what it had."""
        self._adoption = adoption
        folder, config = request.folder, config_path(request)
        troubles = Troubles()
        self.server_log: Path = log_files.prepare(folder) / state_dir.SERVER_LOG
        server_log = LogFile(self.server_log)
        self.events = EventLog(folder / state_dir.EVENTS)
        self._folder, self._notifier, self._troubles = folder, notifier, troubles
        passed = passed_sockets() if adoption is None else adoption.passed()
        handed = () if adoption is None else adoption.handover.gate
        self._gateway = Gateway(self, troubles, passed, api_keys(), handed)
        effects = ServerEffects(folder, server_log, self.events, troubles)
        self._supervisor = Supervisor(
            effects.connect(self._gateway, self._server_changed, self._out_of_memory),
            Policy(),
            read_good(folder),
        )
        if adoption is not None:
            adoption.supervise(self._supervisor, effects)
        self._deployment = Deployment(request, self._supervisor, self._gateway, troubles, self.events)
        effects.use(self._supervisor, self._deployment)
        self._publisher = Publisher(
            folder,
            config,
            self._supervisor,
            self._deployment,
            self._gateway,
            effects,
            self.events,
            server_log,
            troubles,
            notifier,
        )
        self._deployment.on_change = self._gateway.on_change = self._publish
        self._gateway.on_count = self._publisher.counts_changed
        self._background = BackgroundLoops(
            folder, config, self._supervisor, self._deployment, self._publisher, troubles, notifier
        )
        self._parts = DaemonParts(
            folder,
            self._supervisor,
            self._deployment,
            self._gateway,
            effects,
            self._publisher,
            self.events,
            troubles,
            notifier,
        )
        if adoption is not None:
            adoption.resume(self._parts)
        self._reexecution: Reexecution | None = None
        self._refused: QwenctlError | None = None  # why the daemon ends by itself
        self._closing = False

    async def run(self, listener: Listener, lock: int) -> None:
        """Keep the server up until ``down``. ``lock``: the open file that holds the folder.

        What is refused at first ends the daemon, unless trying later can help or a service manager would only
        start it again.

        Raises:
            QwenctlError: the first wish was refused.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.down)
        loop.add_signal_handler(signal.SIGHUP, self._background.reload_wanted.set)
        take_signals()
        self._reexecution = Reexecution(self._parts, lock, listener)
        if self._adoption is None:
            self.events.note("daemon_started", pid=os.getpid(), version=__version__)
        self._publish()
        loops = {**self._background.loops(listener), "the gate's address": self._gateway.run}
        beside = [loop.create_task(keep_running(name, body, self._troubles)) for name, body in loops.items()]
        beside.append(loop.create_task(self._begin()))
        try:
            await self._supervisor.run()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await self._gateway.close()
            self._publisher.close()
        if self._adoption is not None:
            self._adoption.dismiss_guard()  # this end is wanted
        self.events.note("daemon_stopped", pid=os.getpid())
        if self._refused is not None:
            raise self._refused

    # What the daemon can be told and asked (control_server.Commands).

    def status(self) -> dict[str, object]:
        """Return the status as it is published."""
        return self._publisher.status()

    def apply(self, flags: Mapping[str, object], *, reset: bool, forget: bool) -> int:
        """Want the same with more flags. Return the number of the change at once."""
        return self._deployment.ask_up(flags, reset=reset, forget=forget)

    async def reload(self) -> tuple[int, bool]:
        """Read the config file again; a configuration that was rejected is tried again.

        Raises:
            QwenctlError: it leads nowhere; the old server keeps running.
        """
        number = self._deployment.ask("reload")
        return number, await self._deployment.planned(number)

    def look_for_engine(self) -> int:
        """Take the engine that is chosen now. Return the number of the change at once."""
        return self._deployment.ask("engine")

    async def restart(self) -> None:
        """Start the server again, also a parked one; try again what was refused. Return once heard."""
        if self._supervisor.state.want is None:
            self._deployment.retry()
        self._supervisor.post(st.Restart())
        await self._supervisor.settled()

    def reexecution(self) -> Reexecution:
        """Return what puts another program in the place of this one.

        Raises:
            ControlError: the daemon begins or ends just now.
        """
        if self._reexecution is None or self._closing:
            raise ControlError("cannot re-execute: the daemon begins or ends just now", hint="try again")
        return self._reexecution

    def down(self) -> None:
        """End the server, then the daemon."""
        if not self._closing:
            self._notifier.stopping()
            self._notifier.extend(stop_timeout_s(self._supervisor.state))
        self._closing = True
        self._deployment.close()
        self._gateway.leave()
        self._supervisor.close()

    async def owner(self, request: web.Request) -> web.StreamResponse:
        """Pass a request of the owner on to the server."""
        return await self._gateway.owner(request)

    # What the gate asks for (gate.gate.ChildDemand).

    def demand(self, held: bool) -> None:  # noqa: FBT001 - a level has one argument: itself
        """Say whether requests wait at the gate."""
        self._supervisor.post(st.Demand(held))

    def unload(self) -> None:
        """Stop the child: nobody has used it for long."""
        self._supervisor.post(st.Sleep())

    async def examine(self, child: int, fault: str) -> bool:
        """Ask a child whose answers say ``fault`` for a token; return whether it is ended."""
        return await self._supervisor.examine(child, fault)

    # How the parts hear of each other.

    def _server_changed(self, before: st.State, after: st.State, pid: int | None) -> None:
        if isinstance(after.phase, st.Failed):
            self._background.parked.set()
        if after.last is not before.last and after.last is not None and after.last.cause == GPU_LOST:
            self._background.devices.lost.set()
        at = time.monotonic()
        contained_now(lambda: self._publisher.server_changed(before, after, pid, at), self._untold)

    def _out_of_memory(self, configuration: Configuration, why: Ending) -> None:
        contained_now(lambda: self._deployment.out_of_memory(configuration, why), self._untold)

    def _untold(self, error: Exception) -> None:
        self._troubles.set("effects", f"cannot take note of a change: {describe(error)}")

    def _publish(self) -> None:
        contained_now(self._publisher.publish, self._untold)

    async def _begin(self) -> None:
        """Begin; an unexpected error at the beginning ends the daemon, since nothing serves yet."""
        await contained(self._begin_serving(), self._end_for)

    def _end_for(self, error: Exception) -> None:
        self._refused = error_of(refusal_of_bug(describe(error)))
        self.down()

    async def _begin_serving(self) -> None:
        """Want what the settings say; end by ourselves if that is refused for good."""
        if self._adoption is not None:
            await self._adoption.finish(self._parts)
            return
        leftover = await in_thread(lambda _: reap_leftover(self._folder))
        if leftover is not None:
            self.events.note("reaped", pid=leftover.pid, executable=leftover.executable)
        first = self._deployment.begin()
        with contextlib.suppress(QwenctlError):
            await self._deployment.planned(first)
            self._notifier.ready()  # clients may come: who comes before the server is ready waits at the gate
        refused = await self._deployment.given_over(first)
        if refused is not None:
            parks = self._notifier.managed or is_launchd_job() or refused.why.passing
            if not parks or refused.why.code == "usage":
                self._refused = error_of(refused.why)
                self.down()
                return
            log.warning("%s", refused.why.message)
        self._notifier.ready()


def start(request: PlanRequest, document: int | None = None) -> None:
    """Run the daemon in this process until it is told to stop.

    ``document``: the open file with the state of a program before this one.
    """
    raise_descriptor_limit()
    logging.basicConfig(level=logging.INFO, format=LOG_LINE, datefmt=LOG_TIME)
    for name in ("httpx", "watchfiles"):
        logging.getLogger(name).setLevel(logging.WARNING)
    asyncio.run(run(request, Notifier.from_environment(), document))
