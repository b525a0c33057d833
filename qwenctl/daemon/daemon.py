"""The daemon: puts the parts together, keeps status.json true, does what it is told. The composition root."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import Mapping

from aiohttp import web

from qwenctl import __version__, files, paths
from qwenctl.control import state_dir
from qwenctl.daemon import event_log, status
from qwenctl.daemon.background import Upkeep
from qwenctl.daemon.child_record import attempt, reap_leftover, record_child
from qwenctl.daemon.control_server import Listener, serve
from qwenctl.daemon.deployment import Changes
from qwenctl.daemon.descriptors import raise_descriptor_limit
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.gateway import Door
from qwenctl.daemon.sd_notify import Notifier
from qwenctl.daemon.socket_activation import passed_sockets
from qwenctl.deploy import pipeline
from qwenctl.deploy.free_memory import shortage
from qwenctl.deploy.types import PlanRequest
from qwenctl.errors import ExitCode, FetchError, QwenctlError
from qwenctl.launch.load_log import Buffers, compare, parse_log
from qwenctl.launch.spec import LaunchSpec
from qwenctl.plan.outcome import Plan
from qwenctl.settings.load import api_keys
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.child import ChildProcess, spawn
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.health import generates, measure
from qwenctl.supervise.lifecycle_events import tell
from qwenctl.supervise.logfile import LogFile, Throttle
from qwenctl.supervise.supervisor import Effects, NotNowError, Supervisor
from qwenctl.supervise.wedge import WedgeLimits

log = logging.getLogger(__name__)

LOG_LINE, LOG_TIME = "%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"
CLOSING_S = 15.0
"""What closing takes beside the stop of the server."""


async def run(request: PlanRequest, notifier: Notifier) -> None:
    """Serve until told to stop.

    Raises:
        SettingsError: they are wrong; nothing was started.
        QwenctlError: the first plan cannot be made, and there is no service manager to park under.
    """
    socket = paths.socket_path(request.folder, state_dir.CONTROL_SOCKET)
    folder = paths.private_dir(request.folder)
    os.umask(0o077)
    with state_dir.lock(folder):
        daemon = Daemon(request, notifier)
        try:
            async with serve(daemon, socket) as listener:
                await daemon.run(listener)
        finally:
            for name in (state_dir.STATUS, state_dir.CHILD):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()


class Daemon:
    """One supervised server, its status and its commands."""

    def __init__(self, request: PlanRequest, notifier: Notifier) -> None:
        self._request, self._folder, self._notifier = request, request.folder, notifier
        self.server_log = self._folder / state_dir.SERVER_LOG
        self.journal = EventLog(self._folder / state_dir.EVENTS)
        self._log = LogFile(self.server_log)
        self._throttle = Throttle(self._log.write)
        self._known = status.Known(request.config or paths.config_dir() / "config.toml")
        self._supervisor = Supervisor(self._effects(), st.Policy(), WedgeLimits())
        self._door = Door(self, passed_sockets(), api_keys())
        self._changes = Changes(
            request, self._supervisor, self._known, self.journal, self._publish, self._door.open
        )
        self._draining: set[asyncio.Task[None]] = set()
        self._process: ChildProcess | None = None
        self._since, self._shown = event_log.now(), "planning"
        self._upkeep = Upkeep(
            self._folder,
            self._changes,
            self._supervisor,
            self._known,
            notifier,
            self._publish,
            self._mend,
        )
        self._first: asyncio.Task[None] | None = None
        self._closing = False

    async def run(self, listener: Listener) -> None:
        """Plan, start, and keep it up until ``down``.

        A model that cannot be had parks the daemon, and is tried for again; anything else wrong with the
        first plan ends it.

        Raises:
            SettingsError: they are wrong.
            QwenctlError: the first plan cannot be made, and there is no service manager to park under.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.down)
        loop.add_signal_handler(signal.SIGHUP, self._upkeep.reload_wanted.set)
        self.journal.note("daemon_started", pid=os.getpid(), version=__version__)
        leftover = await asyncio.to_thread(reap_leftover, self._folder)
        if leftover is not None:
            self.journal.note("reaped", pid=leftover.pid, executable=leftover.executable)
        self._publish()
        resolved = await asyncio.to_thread(pipeline.resolve, self._request)
        await self._door.open(resolved.settings)
        self._notifier.ready()
        feeding = asyncio.create_task(self._feed_watchdog())
        try:
            self._first = asyncio.create_task(self._try_first())
            with contextlib.suppress(asyncio.CancelledError):
                await self._first
            if not self._closing:
                await self._supervise(listener)
        finally:
            feeding.cancel()
            await self._door.close()
        self.journal.note("daemon_stopped", pid=os.getpid())

    async def _supervise(self, listener: Listener) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(loop) for loop in self._upkeep.loops(listener)]
            await self._supervisor.run()
            for task in running:
                task.cancel()

    # What the daemon can be told and asked (control.endpoint.Commands).

    def status(self) -> dict[str, object]:
        """Return the status as it is published."""
        state = self._supervisor.state
        choice = self._changes.of(lc.aim(state) or state.want)
        prepared = choice.prepared if choice else None
        told = status.status(state, self._known, prepared, self._since, self._door.counts())
        return dataclasses.asdict(told)

    async def apply(self, overrides: Mapping[str, object], *, forget: bool) -> bool:
        """Want the same with other overrides. Return whether anything changes.

        Raises:
            QwenctlError: the new settings lead nowhere; the old server keeps running.
        """
        return await self._changes.apply(overrides, forget=forget)

    async def reload(self) -> bool:
        """Read the config file again; a configuration that was rejected is tried again.

        Raises:
            QwenctlError: it leads nowhere; the old server keeps running.
        """
        return await self._changes.reload(if_changed=False)

    async def restart(self) -> None:
        """Start the server afresh; a parked one is tried again. Returns when that was heard."""
        self._supervisor.post(st.Restart())
        if self._first is not None and self._first.done():
            await self._supervisor.settled()

    def down(self) -> None:
        """End the server, then the daemon."""
        if not self._closing:
            self._notifier.stopping()
            running = lc.live(self._supervisor.state)
            patience_s = (
                running.spec.stop_timeout_s + self._supervisor.policy.drain_timeout_s if running else 0.0
            )
            self._notifier.extend(patience_s + CLOSING_S)
        self._closing = True
        if self._first is not None:
            self._first.cancel()
        self._door.leave()
        self._supervisor.close()

    async def owner(self, request: web.Request) -> web.StreamResponse:
        """Pass a request of the owner on to the server."""
        return await self._door.owner(request)

    # What the gate asks for (gate.gate.ChildDemand).

    def demand(self, held: bool) -> None:  # noqa: FBT001 - a level has one argument: itself
        """Start the child that was stopped because nobody used it: requests are held for it."""
        if held and self._supervisor.state.asleep:
            self._supervisor.post(st.Wake())

    def unload(self) -> None:
        """Stop the child: nobody has used it for long."""
        self._supervisor.post(st.Sleep())

    # What the supervisor does through the daemon.

    def _effects(self) -> Effects:
        return Effects(
            spawn=self._spawn,
            probe=self._probe,
            measure=lambda spec, pid, timeout_s: measure(spec, pid, timeout_s, self._door.traffic),
            publish=self._on_change,
            degrade=self._degrade,
            drain=self._drain,
        )

    def _drain(self, number: int) -> None:
        """Let the answers in flight finish; what comes meanwhile is held."""

        async def drain() -> None:
            phase = self._supervisor.state.phase
            choice = self._changes.of(phase.child.spec) if isinstance(phase, st.Draining) else None
            if choice is not None:
                await self._door.drain(choice.prepared.resolved.settings.gate.drain_timeout_s)
            self._supervisor.post(st.Drained(number))

        task = asyncio.create_task(drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _degrade(self, spec: LaunchSpec, why: Ending) -> None:
        await self._changes.degrade(spec, why)

    async def _spawn(self, child: st.Child) -> ChildProcess:
        choice = self._changes.of(child.spec)
        if choice is not None and child.spec != self._changes.start_anyway:
            short = shortage(choice.prepared.plan, choice.prepared.hardware)
            if short is not None:
                raise NotNowError(short)
        if child.spec.address.socket is not None:
            self._known.troubles["folder"] = attempt(_make_folders, "the state folder")
        self._process = spawn(
            child.spec, self._throttle, lambda: self._supervisor.post(st.Listening(child.number))
        )
        self._known.troubles["child"] = record_child(self._folder, self._process.pid)
        return self._process

    async def _probe(self, spec: LaunchSpec, timeout_s: float) -> bool:
        """Ask for a token; of a server that starts, look at where its layers went, too."""
        empty = isinstance(self._supervisor.state.phase, st.Starting)
        if not await generates(spec, timeout_s, empty=empty):
            return False
        phase, process = self._supervisor.state.phase, self._process
        if not isinstance(phase, st.Starting) or process is None:
            return True
        loaded, choice = parse_log(process.said()), self._changes.of(spec)
        if choice is not None:
            self._compare(choice.prepared.plan, loaded)
        if choice is not None and choice.prepared.plan.devices and loaded.partly_on_cpu:
            self._supervisor.post(st.Faulty(phase.child.number, _spilled(loaded)))
            return False
        return True

    def _compare(self, plan: Plan, said: Buffers) -> None:
        self._known.loaded = compare(plan.memory, said) if said.device_mib or said.host_mib else None
        if self._known.loaded is not None:
            self.journal.note("loaded", **dataclasses.asdict(self._known.loaded))

    def _on_change(self, before: st.State, after: st.State, pid: int | None) -> None:
        self._known.pid = pid
        self._changes.on_change(after)
        self._door.note_ending(before, after)
        if after.want is not None:
            self._known.refused = None
        for name, fields in tell(before, after, pid, time.monotonic()):
            self.journal.note(name, **fields)
        if isinstance(after.phase, st.Failed):
            self._upkeep.parked.set()
        self._publish()

    def _publish(self) -> None:
        phase = status.phase_now(self._supervisor.state, self._known)
        if phase != self._shown:
            self._shown, self._since = phase, event_log.now()
        self._known.troubles |= {"log": self._log.error, "events": self.journal.error}
        self._known.troubles["port"] = self._door.trouble
        self._tell_gate(phase)
        now = self.status()
        self._notifier.status(status.line(now))
        before = self._known.troubles.get("status")
        failed = self._known.troubles["status"] = self._write_status(now)
        if failed and failed != before:
            log.warning("%s", failed)
        elif before and not failed:
            self._write_status(self.status())  # what was just written still tells of the trouble

    def _write_status(self, content: dict[str, object]) -> str | None:
        """Publish the status and return what went wrong, if anything.

        No file is better than an old one: who finds none asks over the socket.
        """
        path = self._folder / state_dir.STATUS
        failed = attempt(lambda: files.write_json(path, content), state_dir.STATUS)
        if failed:
            with contextlib.suppress(OSError):
                path.unlink()
        return failed

    def _mend(self) -> None:
        """Write now what could not be written before."""
        self._log.mend()
        self.journal.mend()
        self._known.troubles |= {"log": self._log.error, "events": self.journal.error}
        if self._known.troubles.get("child") and self._process is not None:
            self._known.troubles["child"] = record_child(self._folder, self._process.pid)

    def _tell_gate(self, phase: str) -> None:
        state, download = self._supervisor.state, self._known.download
        choice = self._changes.of(lc.aim(state) or state.want)
        share = 100 * download.bytes // download.total_bytes if download and download.total_bytes else 0
        progress = f"{share} % of {download.file}" if download else None
        refused = self._known.refused if state.last is None else None
        if choice is not None:
            self._door.expect(choice.prepared.plan)
        self._door.tell(phase, state, choice.prepared if choice else None, progress, refused)

    # What goes on beside the server.

    async def _try_first(self) -> None:
        """Want what the settings say. What a restart of the daemon would not help parks instead."""
        try:
            await self._changes.first()
        except QwenctlError as error:
            parks = self._notifier.managed or isinstance(error, FetchError)
            if not parks or error.exit_code == ExitCode.USAGE:
                raise
            log.warning("%s", error.message)
            self._known.refused = error
            self.journal.note("refused", error=error.message, hint=error.hint)
            self._publish()

    async def _feed_watchdog(self) -> None:
        """Say that we live as often as all events so far were handled, which is the progress we make."""
        while self._notifier.ping_every_s is not None:
            await self._supervisor.settled()
            self._notifier.alive()
            await asyncio.sleep(self._notifier.ping_every_s)


def start(request: PlanRequest) -> None:
    """Run the daemon in this process until it is told to stop."""
    raise_descriptor_limit()
    logging.basicConfig(
        level=logging.INFO,
        format=LOG_LINE,
        datefmt=LOG_TIME,
    )
    for name in ("httpx", "watchfiles"):
        logging.getLogger(name).setLevel(logging.WARNING)
    asyncio.run(run(request, Notifier.from_environment()))


def _make_folders() -> None:
    """Make what the child needs and somebody may have removed: the folders of its socket and of its slots."""
    for folder in (paths.state_dir(), pipeline.slots_dir()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _spilled(loaded: Buffers) -> Ending:
    done, layers = loaded.offloaded or (0, 0)
    summary = f"only {done} of {layers} layers fit on the device"
    return Ending("device_out_of_memory", summary, hint="choose a smaller quant or context")
