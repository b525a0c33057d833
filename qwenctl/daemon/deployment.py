"""Change what is served, as a transaction: everything is checked first, and kept once a token was generated.

Until then the old server answers; after that the lifecycle brings the last good one back by itself.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from qwenctl import files
from qwenctl.control import state_dir
from qwenctl.control.status_schema import Download, PhaseName
from qwenctl.daemon.child_record import attempt
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.gateway import drain_timeout_s
from qwenctl.daemon.status import Known
from qwenctl.deploy import model_file, oom_record, pipeline
from qwenctl.deploy.address import check_address
from qwenctl.deploy.types import PlanRequest, Draft, ResolvedSettings
from qwenctl.errors import LaunchError, QwenctlError, SettingsError
from qwenctl.fetch.request import Progress
from qwenctl.launch.spec import LaunchSpec
from qwenctl.plan.outcome import Refused
from qwenctl.settings.types import Settings
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.exits import MEMORY_BUSY, Ending
from qwenctl.supervise.supervisor import Supervisor
from qwenctl.supervise.wedge import WedgeLimits

log = logging.getLogger(__name__)

SAMPLES_PER_LIMIT = 4
"""Samples within a short ``wedge_after_s``; a long one is sampled as seldom as ``Limits`` says."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A configuration on its way to the server. ``overrides`` are kept once it has generated a token."""

    request: PlanRequest
    prepared: Draft
    spec: LaunchSpec
    overrides: Mapping[str, object] | None = None


class Changes:
    """The choice that serves, and the one that is being tried."""

    def __init__(
        self,
        request: PlanRequest,
        supervisor: Supervisor,
        known: Known,
        journal: EventLog,
        publish: Callable[[], None],
        door: Callable[[Settings], Awaitable[None]],
    ) -> None:
        self.start_anyway: LaunchSpec | None = None  # memory is short, and there is nothing smaller
        self._request, self._supervisor, self._known = request, supervisor, known
        self._journal, self._publish, self._open = journal, publish, door
        self._back: asyncio.Task[None] | None = None
        self._kept: Choice | None = None
        self._trial: Choice | None = None
        self._seen: ResolvedSettings | None = None
        self._busy_refused: frozenset[Refused] = frozenset()
        self._had_file = False
        self._lock = asyncio.Lock()

    def of(self, spec: LaunchSpec | None) -> Choice | None:
        """Return the choice behind a spec."""
        return next((one for one in (self._trial, self._kept) if one is not None and one.spec == spec), None)

    async def first(self) -> None:
        """Want what the settings say now.

        Raises:
            QwenctlError: they lead nowhere.
        """
        async with self._lock:
            await self._take(self._request)

    async def apply(self, overrides: Mapping[str, object], *, forget: bool) -> bool:
        """Want the same with other overrides. Return whether anything changes.

        Raises:
            QwenctlError: the new settings lead nowhere; the old server keeps running.
        """
        async with self._lock:
            if forget:
                self._busy_refused = frozenset()
                oom_record.forget(self._request.folder)
            changed = await self._take(dataclasses.replace(self._request, overrides=overrides), overrides)
            await self._settle()
            return changed

    async def reload(self, *, if_changed: bool) -> bool:
        """Read the config file again and want what it says. Return whether anything changes.

        With ``if_changed``, settings that say what they said before are not tried again.

        Raises:
            QwenctlError: they lead nowhere; the old server keeps running and the status says why.
        """
        async with self._lock:
            pending = self._trial.overrides if self._trial else None
            request = dataclasses.replace(self._request, overrides=pending)
            try:
                self._check_file()
                with _told():
                    resolved = await asyncio.to_thread(pipeline.resolve, request)
                if if_changed and _says(resolved) == _says(self._seen):
                    changed = False
                else:
                    self._seen = resolved
                    changed = await self._take(request, pending)
                    await self._settle()
            except QwenctlError as error:
                if error.message != self._known.config_error:
                    self._journal.note("config_invalid", error=error.message, hint=error.hint)
                self._known.config_error = error.message
                self._publish()
                raise
            if self._known.config_error is not None:
                self._journal.note("config_valid")
            self._known.config_error = None
            self._publish()
            return changed

    async def degrade(self, spec: LaunchSpec, why: Ending) -> None:
        """Want the planner's next candidate in place of one for which memory ran out."""
        async with self._lock:
            choice = self.of(spec)
            if choice is None or lc.aim(self._supervisor.state) != spec:
                return
            refused = oom_record.refusal(choice.prepared.plan, why.cause)
            if why.cause == MEMORY_BUSY:  # others may leave: not for good
                self._busy_refused |= {refused}
            else:
                self._remember(choice, refused)
            try:
                changed = await self._take(choice.request, choice.overrides)
            except QwenctlError as error:
                changed = False
                self._journal.note("nothing_smaller", error=error.message)
            if not changed:
                self.start_anyway = spec

    def on_change(self, after: st.State) -> None:
        """Keep a choice that has generated a token; drop one that was rejected."""
        trial = self._trial
        if trial is None:
            return
        if after.good == trial.spec and after.rejected is None:
            if trial.overrides is not None:
                path, overrides = self._request.folder / state_dir.OVERRIDES, trial.overrides
                self._known.troubles["overrides"] = attempt(
                    lambda: files.write_json(path, overrides), state_dir.OVERRIDES
                )
            self._kept, self._trial = trial, None
        elif after.rejected is not None and after.rejected.spec == trial.spec:
            self._trial = None
            if self._kept is not None:  # the front door goes back with it
                self._back = asyncio.create_task(self._reopen(self._kept.prepared.resolved.settings))

    async def _take(self, request: PlanRequest, overrides: Mapping[str, object] | None = None) -> bool:
        """Plan for ``request``, want the result, and return whether that is something else than before."""
        request = dataclasses.replace(request, refused=self._busy_refused)
        self._enter("planning")
        try:
            with _told():
                prepared = await asyncio.to_thread(pipeline.prepare, request)
                self._enter("fetching")
                model = await model_file.obtain(prepared, self._on_progress)
                spec = pipeline.spec(prepared, model)
                await self._open(prepared.resolved.settings)
                running = lc.live(self._supervisor.state)
                if running is None or running.spec.address != spec.address:
                    check_address(spec.address)
        finally:
            self._known.download = None
            self._enter(None)
        state = self._supervisor.state
        changed = spec != state.want or state.rejected is not None
        self._trial = Choice(request, prepared, spec, overrides)
        self._note(prepared, changed=changed)
        self._supervisor.policy = policy(prepared.resolved.settings, self._supervisor.policy)
        self._supervisor.limits = limits(prepared.resolved.settings)
        self._supervisor.post(st.Want(spec))
        return changed

    async def _reopen(self, settings: Settings) -> None:
        try:
            await self._open(settings)
        except QwenctlError as error:
            self._known.troubles["gate"] = error.message

    async def _settle(self) -> None:
        """Wait until the supervisor has heard it; what runs already needs no proof."""
        await self._supervisor.settled()
        self.on_change(self._supervisor.state)
        self._publish()

    def _note(self, prepared: Draft, *, changed: bool) -> None:
        plan, resolved = prepared.plan, prepared.resolved
        self._seen, self._had_file = resolved, resolved.config.exists()
        refused = oom_record.remembered(
            self._request.folder, oom_record.key(prepared.hardware, resolved.profile.name, prepared.server)
        )
        self._known.degraded = _given_up(refused | self._busy_refused)
        if changed:
            self.start_anyway = None
            self._journal.note(
                "planned", profile=plan.profile, quant=plan.quant, context_tokens=plan.context_tokens
            )
            for warning in plan.warnings:
                log.warning("%s", warning)

    def _remember(self, choice: Choice, refused: Refused) -> None:
        prepared, folder = choice.prepared, self._request.folder
        key = oom_record.key(prepared.hardware, prepared.resolved.profile.name, prepared.server)
        self._known.troubles["refused"] = attempt(
            lambda: oom_record.remember(folder, key, refused), oom_record.REFUSED
        )
        self._busy_refused |= {refused}  # for this daemon's life, whatever the disk says
        log.warning("out of memory: %s at %d tokens is given up", refused.quant, refused.context_tokens)
        self._journal.note("degraded", **dataclasses.asdict(refused))

    def _check_file(self) -> None:
        if self._had_file and not self._known.config.exists():
            raise SettingsError(
                f"cannot read settings {self._known.config}: it is gone",
                hint="what it said last stays in force until it is back or the daemon ends",
            )

    def _on_progress(self, progress: Progress) -> None:
        self._known.download = Download(
            progress.file, progress.bytes, progress.total_bytes, progress.bytes_per_s
        )
        self._publish()

    def _enter(self, busy: PhaseName | None) -> None:
        self._known.busy = busy
        self._publish()


def policy(settings: Settings, before: st.Policy) -> st.Policy:
    """Return how eagerly a server is brought back under these settings."""
    return dataclasses.replace(
        before, on_oom=settings.supervise.on_oom, drain_timeout_s=drain_timeout_s(settings)
    )


def limits(settings: Settings) -> WedgeLimits:
    """Return how long no progress is believed under these settings."""
    after_s, usual = settings.supervise.wedge_after_s, WedgeLimits()
    short = min(usual.sample_s, after_s / SAMPLES_PER_LIMIT)
    return WedgeLimits(
        wedge_after_s=after_s, sample_s=short, probe_timeout_s=min(usual.probe_timeout_s, max(after_s, 1.0))
    )


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn a fault of the system into a refusal: it must not end the daemon, whose server is well.

    Raises:
        LaunchError: a file vanished, descriptors or memory ran out, a tool did not answer.
    """
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        raise LaunchError(f"cannot prepare: {what}{files.reason(error)}") from error


def _says(resolved: ResolvedSettings | None) -> object:
    return None if resolved is None else (resolved.settings, resolved.profile)


def _given_up(refused: frozenset[Refused]) -> str | None:
    if not refused:
        return None
    named = sorted(f"{one.quant} at {one.context_tokens:,} tokens, {one.kv_type}" for one in refused)
    return f"memory ran out before with {'; '.join(named)} (qwenctl up --forget tries again)"
