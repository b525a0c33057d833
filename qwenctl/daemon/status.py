"""Put the status together from the states of the daemon's parts. Pure: no I/O, no clock."""

from dataclasses import dataclass
from typing import Literal

from qwenctl.control.status_schema import (
    ChangeStatus,
    ConfigStatus,
    Download,
    LastEnding,
    MemoryStatus,
    PhaseName,
    PlanStatus,
    ReexecStatus,
    RefusedChange,
    Restarts,
    RolledBack,
    Status,
    WarmStatus,
)
from qwenctl.deploy import states as change
from qwenctl.deploy.device_look import is_away
from qwenctl.deploy.engine_blame import blames_engine, told_rejection
from qwenctl.engine.address import Address, endpoint_address
from qwenctl.gate.upstream import UpstreamState
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.load_log import MeasuredLoad
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st

NOTHING_WARM = WarmStatus()
CLOSING_S = 15.0
"""What closing the daemon takes beside the stop of the server."""
READY_TIMEOUT_S = 600.0
"""The time to the first token while no settings are known: their default."""


@dataclass(frozen=True, slots=True)
class GateCounts:
    """What waits at the gate, what is on its way, and whether it asks for a key (None: not open yet).

    ``continued``: streams whose server went away and that a later one finished, since the daemon's start.
    """

    held: int = 0
    in_flight: int = 0
    asks_key: bool | None = None
    continued: int = 0
    warm: WarmStatus = NOTHING_WARM


@dataclass(frozen=True, slots=True)
class DaemonState:
    """The states of all parts, and what is known beside them. Times are RFC 3339 UTC."""

    deploy: change.ChangeState
    server: st.State
    gate: GateCounts
    gate_address: Address | None
    config_path: str
    daemon_pid: int
    version: str
    since: str
    child_pid: int | None = None
    next_try_at: str | None = None
    rolled_back_at: str | None = None
    download: Download | None = None
    loaded: MeasuredLoad | None = None
    newer_commit: str | None = None
    degraded: str | None = None
    crashed: int | None = None  # the last child that ended through a fault of its own
    troubles: tuple[str, ...] = ()
    reexec: ReexecStatus | None = None


def shown_configuration(daemon: DaemonState) -> Configuration | None:
    """Return the configuration that serves or is about to; while nothing does, the one on its way."""
    server = daemon.server
    if (configuration := lc.in_force(server)) is not None:
        return configuration
    stage, trial = daemon.deploy.stage, daemon.deploy.trial
    if isinstance(stage, change.Opening):
        return stage.configuration
    return None if trial is None else trial.configuration


def status(daemon: DaemonState) -> Status:
    """Return the status."""
    phase = phase_of(daemon)
    configuration, server, deploy = shown_configuration(daemon), daemon.server, daemon.deploy
    error = deploy.config_error
    return Status(
        phase=phase,
        ready=phase == "ready",
        endpoint=_endpoint(daemon, configuration),
        pid=daemon.child_pid if lc.live(server) else None,
        daemon_pid=daemon.daemon_pid,
        since=daemon.since,
        next_try_at=daemon.next_try_at,
        plan=_plan(daemon, configuration),
        restarts=Restarts(sum(count for _, count in server.endings), dict(server.endings)),
        last_ending=_last_ending(daemon),
        config=ConfigStatus(daemon.config_path, error is None, error),
        version=daemon.version,
        download=daemon.download,
        memory=_memory(daemon, configuration),
        rolled_back=_rolled_back(daemon),
        change=change_of(deploy),
        newer_commit=daemon.newer_commit,
        degraded=daemon.degraded,
        troubles=[*daemon.troubles, *(configuration.hardware.away if configuration is not None else ())],
        held=daemon.gate.held,
        in_flight=daemon.gate.in_flight,
        asks_key=daemon.gate.asks_key,
        continued=daemon.gate.continued,
        engine=_engine(daemon, configuration),
        stop_timeout_s=stop_timeout_s(server),
        ready_timeout_s=_ready_timeout_s(daemon, configuration),
        reexec=daemon.reexec,
        warm=daemon.gate.warm,
    )


def stop_timeout_s(server: st.State) -> float:
    """Return how long a stop of the daemon may take: drain and save, stop the server, close."""
    child = lc.live(server)
    return CLOSING_S if child is None else child.spec.drain_timeout_s + child.spec.stop_timeout_s + CLOSING_S


def phase_of(daemon: DaemonState) -> PhaseName:
    """Return the phase in a reader's words. Planning and fetching show only while nothing runs."""
    match daemon.server.phase:
        case st.Down():
            planning = _phase_without_server(daemon.deploy)
            return "fetching" if planning == "planning" and daemon.download is not None else planning
        case st.Idle():
            return "idle"
        case st.Starting():
            return "starting"
        case st.Restoring():
            return "restoring"
        case st.Ready():
            return "ready"
        case st.Draining():
            return "draining"
        case st.Stopping():
            return "stopping"
        case st.Backoff():
            return "backoff"
        case st.Failed(parked):
            trial = daemon.deploy.trial  # the supervisor hears of it in a moment
            return "failed" if trial is None or trial.configuration.starts_like(parked) else "starting"


def change_of(deploy: change.ChangeState) -> ChangeStatus:
    """Return the newest wish and where it is."""
    refused = None
    if deploy.refused is not None:
        wish, why = deploy.refused.wish, deploy.refused.why
        back, away = deploy.refused.rolled_back, is_away(why)
        refused = RefusedChange(wish.number, why.code, why.message, why.hint, back, away)
    return ChangeStatus(deploy.number, deploy.origin, _stage_of(deploy), refused)


def upstream_state(daemon: DaemonState, fingerprint: str) -> UpstreamState:
    """Return what the gate is told of the child. ``fingerprint``: what its saved slots must match."""
    phase, child, download = phase_of(daemon), lc.live(daemon.server), daemon.download
    configuration, ending = shown_configuration(daemon), _last_ending(daemon)
    share = 100 * download.bytes // download.total_bytes if download and download.total_bytes else 0
    failed = phase == "failed" and ending is not None
    return UpstreamState(
        phase=phase,
        child=child.number if child else 0,
        address=child.spec.address if child and phase in ("restoring", "ready") else None,
        progress=f"{share} % of {download.file}" if download else None,
        cause=ending.summary if failed and ending else None,
        hint=ending.hint if failed and ending else None,
        crashed=daemon.crashed,
        alias=configuration.profile.name if configuration else "model",
        slots_fingerprint=fingerprint,
    )


def one_line(now: Status) -> str:
    """Return the status in one line, as a service manager shows it."""
    words: list[str] = [now.phase]
    if now.plan is not None:
        words.append(f"{now.plan.profile} {now.plan.quant}")
    if now.endpoint:
        words.append(now.endpoint)
    if now.download is not None and now.download.total_bytes:
        words.append(f"{100 * now.download.bytes // now.download.total_bytes} % of {now.download.file}")
    if now.last_ending is not None and now.phase in ("failed", "backoff"):
        words.append(now.last_ending.summary)
    return ", ".join(words)


def _stage_of(deploy: change.ChangeState) -> Literal["planning", "fetching", "trial", "settled", "refused"]:
    if deploy.planning is not None or deploy.number == 0:
        return "planning"
    match deploy.stage:
        case change.Fetching() | change.Opening():
            return "fetching"
        case change.Rest():
            pass
    if deploy.trial is not None:
        return "trial"
    return "settled" if deploy.refused is None else "refused"


def _phase_without_server(deploy: change.ChangeState) -> PhaseName:
    if deploy.planning is not None or isinstance(deploy.stage, change.Opening):
        return "planning"
    if isinstance(deploy.stage, change.Fetching):
        return "fetching"
    if deploy.refused is not None:
        return "backoff" if is_away(deploy.refused.why) else "failed"
    return "planning" if deploy.number == 0 else "down"


def _rolled_back(daemon: DaemonState) -> RolledBack | None:
    rejected, good = daemon.server.rejected, daemon.server.good
    if rejected is None:
        return None
    instead = good.engine if good is not None and blames_engine(rejected, good) else None
    why = told_rejection(rejected.why.summary, rejected.configuration.engine, instead)
    return RolledBack(why, daemon.rolled_back_at or "")


def _plan(daemon: DaemonState, configuration: Configuration | None) -> PlanStatus | None:
    stage = daemon.deploy.stage
    if configuration is not None:
        profile, plan, hardware = configuration.profile, configuration.plan, configuration.hardware
    elif isinstance(stage, change.Fetching):
        profile, plan, hardware = stage.draft.resolved.profile, stage.draft.plan, stage.draft.hardware
    else:
        return None
    warnings = (*hardware.warnings, *plan.warnings)
    path = None if configuration is None else str(configuration.model_file)
    return PlanStatus(profile.name, plan.quant, plan.context_tokens, profile.title, warnings, path)


def _engine(daemon: DaemonState, configuration: Configuration | None) -> dict[str, object] | None:
    if configuration is not None:
        return configuration.engine.to_json()
    stage = daemon.deploy.stage
    return stage.draft.server.identity.to_json() if isinstance(stage, change.Fetching) else None


def _endpoint(daemon: DaemonState, configuration: Configuration | None) -> str | None:
    """Return where clients are answered; before a plan is made, where the gate holds their requests."""
    where = endpoint_address(configuration.settings) if configuration else daemon.gate_address
    return None if where is None else f"{where.url}/v1"


def _ready_timeout_s(daemon: DaemonState, configuration: Configuration | None) -> float:
    stage = daemon.deploy.stage
    if configuration is not None:
        return configuration.spec.ready_timeout_s
    if isinstance(stage, change.Fetching):
        return stage.draft.resolved.settings.supervise.ready_timeout_s
    return READY_TIMEOUT_S


def _memory(daemon: DaemonState, configuration: Configuration | None) -> MemoryStatus:
    """Return the prediction alone until a load can be set beside it: then of the same buffers."""
    loaded = daemon.loaded if isinstance(daemon.server.phase, st.Ready | st.Restoring) else None
    if loaded is not None:
        return MemoryStatus(loaded.predicted_bytes, loaded.actual_bytes, round(loaded.error_percent, 3))
    memory = configuration.plan.memory if configuration else None
    return MemoryStatus(memory.device_bytes + memory.host_bytes if memory else None)


def _last_ending(daemon: DaemonState) -> LastEnding | None:
    refused, last = daemon.deploy.refused, daemon.server.last
    if refused is not None and daemon.server.want is None:
        why = refused.why
        return LastEnding(why.code, why.message, permanent=not why.passing, hint=why.hint, log_tail=[])
    if last is None:
        return None
    return LastEnding(last.cause, last.summary, last.permanent, last.hint, list(last.log_tail))
