"""Publish the daemon's state: status.json, the service manager's line, what the gate is told of the child."""

import asyncio
import contextlib
import dataclasses
import logging
import os
from pathlib import Path

from qwenctl import __version__
from qwenctl.control import state_dir
from qwenctl.control.status_schema import ReexecStatus
from qwenctl.daemon import event_log
from qwenctl.daemon.child_record import attempt
from qwenctl.daemon.deployment import Deployment
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.gateway import Gateway
from qwenctl.daemon.keep_awake import Awake, why_awake
from qwenctl.daemon.sd_notify import Notifier
from qwenctl.daemon.server_effects import ServerEffects, crashed_by_itself
from qwenctl.daemon.status import DaemonState, GateCounts, one_line, phase_of, status, upstream_state
from qwenctl.daemon.troubles import Troubles
from qwenctl.deploy import states as change
from qwenctl.files import write_json
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.lifecycle_events import tell
from qwenctl.supervise.logfile import LogFile
from qwenctl.supervise.supervisor import Supervisor

log = logging.getLogger(__name__)

AWAKE_END_S = 1.0
"""What keeps the machine awake ends within milliseconds once it is to."""
COUNT_AFTER_S, COUNT_EVERY_S = 0.5, 1.0
"""So long after a request came or went the status counts it, at most so often. Quick ones cost nothing."""


class Publisher:
    """Puts the states of the parts together each time one of them changes."""

    def __init__(  # noqa: PLR0913, PLR0917 - it shows the state of every part
        self,
        folder: Path,
        config: Path,
        supervisor: Supervisor,
        deployment: Deployment,
        gateway: Gateway,
        effects: ServerEffects,
        events: EventLog,
        server_log: LogFile,
        troubles: Troubles,
        notifier: Notifier,
    ) -> None:
        self.newer_commit: str | None = None
        self.reexec: ReexecStatus | None = None
        self._folder, self.config = folder, config
        self._supervisor, self._deployment, self._gateway = supervisor, deployment, gateway
        self._effects, self._events, self._server_log = effects, events, server_log
        self._troubles, self._notifier = troubles, notifier
        self.since, self.shown_phase = event_log.now(), ""
        self._child_pid: int | None = None
        self._crashed: int | None = None
        self._shown_counts = GateCounts()
        self._counted_at = 0.0
        self._counting: asyncio.TimerHandle | None = None
        self._closed = False
        self._awake = Awake()

    def resume(self, since: str, phase: str, child_pid: int | None, newer_commit: str | None) -> None:
        """Go on with what an earlier program has shown."""
        self.since, self.shown_phase = since, phase
        self._child_pid, self.newer_commit = child_pid, newer_commit

    def resume_counts(self) -> None:
        """Take the gate's counts as shown: an earlier program has told of them."""
        self._shown_counts = self._gateway.counts()

    def server_changed(self, before: st.State, after: st.State, pid: int | None, at: float) -> None:
        """Note what the lifecycle did at ``at`` (monotonic), pass it on, and publish."""
        self._child_pid = pid
        crashed = crashed_by_itself(before, after)
        self._crashed = self._crashed if crashed is None else crashed
        for name, fields in tell(before, after, pid, at):
            self._events.note(name, **fields)
        self._deployment.server_changed(after)
        self.publish()

    def state(self) -> DaemonState:
        """Return the states of all parts."""
        server, rejected = self._supervisor.state, self._supervisor.state.rejected
        waiting = server.phase.until if isinstance(server.phase, st.Backoff) else None
        return DaemonState(
            deploy=self._deployment.state,
            server=server,
            gate=self._gateway.counts(),
            gate_address=self._gateway.endpoint(),
            config_path=str(self.config),
            daemon_pid=os.getpid(),
            version=__version__,
            since=self.since,
            child_pid=self._child_pid,
            next_try_at=None if waiting is None else event_log.wall(waiting),
            rolled_back_at=None if rejected is None else event_log.wall(rejected.at),
            download=self._deployment.download,
            loaded=self._effects.loaded,
            newer_commit=self.newer_commit,
            degraded=self._deployment.degraded,
            crashed=self._crashed,
            troubles=self._troubles.all(),
            reexec=self.reexec,
        )

    def status(self) -> dict[str, object]:
        """Return the status of now, as JSON has it."""
        return dataclasses.asdict(status(self.state()))

    def publish(self) -> None:
        """Bring the gate in line, tell it the child's state, write the status."""
        server, deploy = self._supervisor.state, self._deployment.state
        child = lc.live(server)
        trial = deploy.trial.configuration if deploy.trial is not None else None
        trial = deploy.stage.configuration if isinstance(deploy.stage, change.Opening) else trial
        direct = child.spec.address if child is not None and child.spec.address.socket is None else None
        kept = deploy.kept or (server.good if server.rejected is not None else None)
        self._gateway.reconcile(kept, trial, direct)
        download = self._deployment.download
        arriving = download is not None and download.bytes < download.total_bytes
        self._awake.update(why_awake(deploy, downloading=arriving))
        self._troubles.set("log", self._server_log.error)
        self._troubles.set("events", self._events.error)
        state = self.state()
        phase = phase_of(state)
        if phase != self.shown_phase:
            self.shown_phase, self.since = phase, event_log.now()
            state = dataclasses.replace(state, since=self.since)
        fingerprint = self._gateway.slots_fingerprint(child.number, child.spec) if child else ""
        self._gateway.tell(upstream_state(state, fingerprint))
        self._publish_status()

    def _publish_status(self) -> None:
        """Write the status, and tell the service manager its line."""
        state = self.state()
        if (more := state.gate.continued - self._shown_counts.continued) > 0:
            self._events.note("continued", streams=more)
        self._shown_counts = state.gate
        now = status(state)
        self._notifier.status(one_line(now))
        before = self._troubles.get("status")
        failed = self._write(dataclasses.asdict(now))
        self._troubles.set("status", failed)
        if failed and failed != before:
            log.warning("%s", failed)
        elif before and not failed:
            self._write(self.status())  # what was just written still tells of the trouble

    def counts_changed(self) -> None:
        """Publish how many requests are held and in flight, soon. No timer runs while nothing changes."""
        if self._counting is None and not self._closed:
            loop = asyncio.get_running_loop()
            due = max(loop.time() + COUNT_AFTER_S, self._counted_at + COUNT_EVERY_S)
            self._counting = loop.call_at(due, self._publish_counts)

    def _publish_counts(self) -> None:
        self._counting = None
        if self._gateway.counts() != self._shown_counts:
            self._counted_at = asyncio.get_running_loop().time()
            self._publish_status()

    def close(self) -> None:
        """Count no more: a status that is written after the daemon's end would never go."""
        self._closed = True
        self._awake.close()
        if self._counting is not None:
            self._counting.cancel()

    def hand_over(self) -> None:
        """Let go of what another program in this process would not know of."""
        self._awake.close(AWAKE_END_S)

    def mend(self) -> None:
        """Write now what could not be written before."""
        self._server_log.mend()
        self._events.mend()
        self._effects.mend()
        self._troubles.set("log", self._server_log.error)
        self._troubles.set("events", self._events.error)

    def _write(self, content: dict[str, object]) -> str | None:
        """Write status.json and return what went wrong, if anything.

        No file is better than an old one: a reader that finds none asks over the socket.
        """
        path = self._folder / state_dir.STATUS
        failed = attempt(lambda: write_json(path, content), state_dir.STATUS)
        if failed:
            with contextlib.suppress(OSError):
                path.unlink()
        return failed
