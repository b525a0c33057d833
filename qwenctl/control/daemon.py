"""The daemon: puts the parts together, keeps status.json true, does what it is told. The composition root."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from qwenctl import __version__, paths
from qwenctl.control import folder as files
from qwenctl.control import prepare as prep
from qwenctl.control.endpoint import serve
from qwenctl.control.protocol import (
    ConfigStatus,
    Download,
    LastEnding,
    MemoryStatus,
    Phase,
    PlanStatus,
    Restarts,
    Status,
)
from qwenctl.fetch.request import Progress
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise.child import ChildProcess, spawn
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.health import generates
from qwenctl.supervise.logfile import LogFile
from qwenctl.supervise.supervisor import Supervisor

log = logging.getLogger(__name__)


async def run(request: prep.Request) -> None:
    """Serve until told to stop.

    Raises:
        QwenctlError: the first plan cannot be made; nothing was started.
    """
    socket = paths.socket_path(request.folder, files.CONTROL_SOCKET)
    folder = paths.private_dir(request.folder)
    os.umask(0o077)
    with files.lock(folder):
        daemon = Daemon(request)
        try:
            async with serve(daemon, socket):
                await daemon.run()
        finally:
            with contextlib.suppress(OSError):
                (folder / files.STATUS).unlink()


class Daemon:
    """One supervised server, its status and its commands."""

    def __init__(self, request: prep.Request) -> None:
        self._request, self._folder = request, request.folder
        self._log = LogFile(self._folder / files.SERVER_LOG)
        self._supervisor = Supervisor(lc.Policy(), self._spawn, generates, self._on_change)
        self._prepared: prep.Prepared | None = None
        self._download: Download | None = None
        self._busy: Phase | None = "planning"
        self._fault: Ending | None = None
        self._pid: int | None = None
        self._shown: Phase = "planning"
        self._since = _now()
        self._applying = asyncio.Lock()

    async def run(self) -> None:
        """Plan, start, and keep it up until ``down``."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.down)
        self._publish()
        await self._take(self._request)
        await self._supervisor.run()

    # What the daemon can be told (control.endpoint.Commands).

    def status(self) -> dict[str, object]:
        """Return the status as it is published."""
        return dataclasses.asdict(self._status())

    async def apply(self, overrides: Mapping[str, object] | None) -> bool:
        """Plan again, with new overrides if given, and run the result.

        Raises:
            QwenctlError: the new settings lead nowhere; the old server keeps running.
        """
        async with self._applying:
            request = dataclasses.replace(self._request, overrides=overrides)
            before = self._supervisor.state.want
            spec = await self._take(request)
            if overrides is not None:
                files.write_json(self._folder / files.OVERRIDES, overrides)
            await self._supervisor.settled()
        return spec != before

    def restart(self) -> None:
        """Start the server afresh."""
        self._supervisor.post(lc.Restart())

    def down(self) -> None:
        """End the server, then the daemon."""
        self._supervisor.close()

    # How it is done.

    async def _take(self, request: prep.Request) -> LaunchSpec:
        """Plan for ``request``, want the result and return it."""
        self._enter("planning")
        try:
            prepared = await asyncio.to_thread(prep.prepare, request)
            self._enter("fetching")
            model = await prep.obtain(prepared, self._on_progress)
            spec = prep.spec(prepared, model)
            if lc.live(self._supervisor.state) is None:
                prep.check_address(spec.address)
        finally:
            self._download = None
            self._enter(None)
        for warning in prepared.plan.warnings:
            log.warning("%s", warning)
        self._request, self._prepared = request, prepared
        self._supervisor.post(lc.Want(spec))
        return spec

    async def _spawn(self, spec: LaunchSpec) -> ChildProcess:
        return await spawn(spec, self._log.write)

    def _on_progress(self, progress: Progress) -> None:
        self._download = Download(progress.file, progress.bytes, progress.total_bytes, progress.bytes_per_s)
        self._publish()

    def _enter(self, busy: Phase | None) -> None:
        self._busy = busy
        self._publish()

    def _on_change(self, state: lc.State, pid: int | None) -> None:
        del state
        self._pid = pid
        self._publish()

    def _publish(self) -> None:
        phase = self._phase()
        if phase != self._shown:
            self._shown, self._since = phase, _now()
        try:
            files.write_json(self._folder / files.STATUS, self.status())
        except OSError as error:
            log.warning("cannot write %s: %s", files.STATUS, error)

    def _phase(self) -> Phase:
        match self._supervisor.state.phase:
            case lc.Down():
                return self._busy or "down"
            case lc.Starting():
                return "starting"
            case lc.Ready():
                return "ready"
            case lc.Stopping():
                return "stopping"
            case lc.Backoff():
                return "backoff"
            case lc.Failed():
                return "failed"

    def _status(self) -> Status:
        state, prepared = self._supervisor.state, self._prepared
        phase = self._phase()
        settings = prepared.resolved.settings if prepared else None
        want = state.want
        config = self._request.config or paths.config_dir() / "config.toml"
        return Status(
            phase=phase,
            ready=phase == "ready",
            endpoint=f"{want.address.url}/v1" if want else None,
            pid=self._pid if lc.live(state) else None,
            daemon_pid=os.getpid(),
            since=self._since,
            next_try_at=_wall(state.phase.until) if isinstance(state.phase, lc.Backoff) else None,
            plan=PlanStatus(settings.profile, prepared.plan.quant, prepared.plan.context_tokens)
            if settings and prepared
            else None,
            restarts=Restarts(sum(count for _, count in state.endings), dict(state.endings)),
            last_ending=_last(state.last),
            config=ConfigStatus(str(config)),
            memory=MemoryStatus(
                prepared.plan.memory.device_bytes + prepared.plan.memory.host_bytes if prepared else None
            ),
            download=self._download,
            version=__version__,
        )


def start(request: prep.Request) -> None:
    """Run the daemon in this process until it is told to stop."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(run(request))


def log_path(folder: Path) -> Path:
    """Return the file the server's output goes to."""
    return folder / files.SERVER_LOG


def _last(ending: Ending | None) -> LastEnding | None:
    if ending is None:
        return None
    return LastEnding(ending.cause, ending.summary, ending.permanent, ending.hint, list(ending.log_tail))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wall(monotonic: float) -> str:
    wall = time.time() + monotonic - time.monotonic()
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
