"""Put the status together from what the parts of the daemon know."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from qwenctl import __version__
from qwenctl.control.status_schema import (
    ConfigStatus,
    Download,
    LastEnding,
    MemoryStatus,
    PhaseName,
    PlanStatus,
    Restarts,
    RolledBack,
    Status,
)
from qwenctl.daemon import event_log
from qwenctl.daemon.gateway import Counts
from qwenctl.deploy.address import address
from qwenctl.deploy.types import Draft
from qwenctl.errors import QwenctlError
from qwenctl.launch.load_log import MeasuredLoad
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import Ending


@dataclass(slots=True)
class Known:
    """What the daemon knows beside the lifecycle's state."""

    config: Path
    busy: PhaseName | None = "planning"
    config_error: str | None = None
    refused: QwenctlError | None = None  # why nothing was ever wanted
    download: Download | None = None
    pid: int | None = None
    loaded: MeasuredLoad | None = None  # the prediction beside what the last load took
    newer_commit: str | None = None
    degraded: str | None = None
    troubles: dict[str, str | None] = field(default_factory=dict)

    def wrong(self) -> list[str]:
        """Return what is wrong around the server."""
        return [trouble for trouble in self.troubles.values() if trouble]


def status(state: st.State, known: Known, prepared: Draft | None, since: str, counts: Counts) -> Status:
    """Return the status of now."""
    phase = phase_now(state, known)
    spec = lc.aim(state) or state.want
    last, rejected = state.last, state.rejected
    return Status(
        phase=phase,
        ready=phase == "ready",
        endpoint=f"{address(prepared.resolved.settings).url}/v1" if spec and prepared else None,
        pid=known.pid if lc.live(state) else None,
        daemon_pid=os.getpid(),
        since=since,
        next_try_at=event_log.wall(state.phase.until) if isinstance(state.phase, st.Backoff) else None,
        plan=PlanStatus(prepared.resolved.settings.profile, prepared.plan.quant, prepared.plan.context_tokens)
        if prepared
        else None,
        restarts=Restarts(sum(count for _, count in state.endings), dict(state.endings)),
        last_ending=_last_ending(last, known),
        config=ConfigStatus(str(known.config), known.config_error is None, known.config_error),
        memory=_memory(known.loaded if isinstance(state.phase, st.Ready) else None, prepared),
        rolled_back=RolledBack(rejected.why.summary, event_log.wall(rejected.at)) if rejected else None,
        newer_commit=known.newer_commit,
        degraded=known.degraded,
        troubles=known.wrong(),
        download=known.download,
        held=counts.held,
        in_flight=counts.in_flight,
        asks_key=counts.asks_key,
        version=__version__,
    )


def _memory(loaded: MeasuredLoad | None, prepared: Draft | None) -> MemoryStatus:
    """Return the prediction alone until a load can be set beside it: then of the same buffers."""
    if loaded is not None:
        return MemoryStatus(loaded.predicted_bytes, loaded.actual_bytes, round(loaded.error_percent, 3))
    memory = prepared.plan.memory if prepared else None
    return MemoryStatus(memory.device_bytes + memory.host_bytes if memory else None)


def line(status: dict[str, object]) -> str:
    """Return the status in one line, as a service manager shows it."""
    plan, ending, download = status["plan"], status["last_ending"], status["download"]
    words = [str(status["phase"])]
    if isinstance(plan, dict):
        words.append(f"{plan['profile']} {plan['quant']}")
    if status["endpoint"]:
        words.append(str(status["endpoint"]))
    if isinstance(download, dict) and download["total_bytes"]:
        words.append(f"{100 * download['bytes'] // download['total_bytes']} % of {download['file']}")
    if isinstance(ending, dict) and status["phase"] in ("failed", "backoff"):
        words.append(str(ending["summary"]))
    return ", ".join(words)


def phase_now(state: st.State, known: Known) -> PhaseName:
    """Return the phase; a refusal that nothing replaced yet is a failure."""
    phase = phase_of(state, known.busy)
    return "failed" if phase == "down" and known.refused is not None else phase


def _last_ending(last: Ending | None, known: Known) -> LastEnding | None:
    if known.refused is not None:
        error = known.refused
        return LastEnding(error.code, error.message, permanent=True, hint=error.hint, log_tail=[])
    if last is None:
        return None
    return LastEnding(last.cause, last.summary, last.permanent, last.hint, list(last.log_tail))


def phase_of(state: st.State, busy: PhaseName | None) -> PhaseName:
    """Return the phase in a reader's words. Planning and fetching show only while nothing runs."""
    match state.phase:
        case st.Down():
            return busy or "down"
        case st.Idle():
            return "idle"
        case st.Starting():
            return "starting"
        case st.Ready():
            return "ready"
        case st.Draining():
            return "draining"
        case st.Stopping():
            return "stopping"
        case st.Backoff():
            return "backoff"
        case st.Failed():
            return "failed"
