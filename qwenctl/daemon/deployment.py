"""Carry out what deploy/machine.py decides: plan, fetch, open, hand over to the supervisor, keep, remember.

It decides nothing. Work that blocks runs in threads, so that every wish is heard at once.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace

from qwenctl.control import state_dir
from qwenctl.control.status_schema import Download
from qwenctl.daemon.child_record import attempt
from qwenctl.daemon.engine_record import EngineRecord
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.gateway import Gateway
from qwenctl.daemon.isolation import contained, contained_now, describe
from qwenctl.daemon.troubles import Troubles
from qwenctl.daemon.wish_planner import WishPlanner
from qwenctl.deploy import machine, model_file, oom_record, pipeline
from qwenctl.deploy import states as st
from qwenctl.deploy.change_events import change_events
from qwenctl.deploy.good_record import write_good
from qwenctl.deploy.refusals import describe_refused_memory, error_of, refusal_of, refusal_of_bug
from qwenctl.deploy.types import Draft, PlanRequest
from qwenctl.errors import QwenctlError
from qwenctl.fetch.clock import in_thread
from qwenctl.fetch.request import Progress
from qwenctl.files import write_json
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.spec import LaunchSpec
from qwenctl.plan.outcome import MemoryRefusal
from qwenctl.settings.load import merge
from qwenctl.supervise import states as supervised
from qwenctl.supervise.exits import MEMORY_BUSY, Ending
from qwenctl.supervise.supervisor import Supervisor

log = logging.getLogger(__name__)


class Deployment:
    """The wishes of one daemon, and what is done about them."""

    def __init__(
        self,
        request: PlanRequest,
        supervisor: Supervisor,
        gateway: Gateway,
        troubles: Troubles,
        events: EventLog,
    ) -> None:
        self.state = st.ChangeState()
        self.download: Download | None = None
        self.start_anyway: LaunchSpec | None = None  # memory is short, and there is nothing smaller
        self.on_change: Callable[[], None] = lambda: None
        self._request, self._folder = request, request.folder
        self._supervisor, self._gateway = supervisor, gateway
        self._troubles, self._events = troubles, events
        self._planner = WishPlanner(request, gateway)
        self._planner.on_progress = self._on_progress
        # for this daemon's life, whatever the disk says
        self.refused: frozenset[MemoryRefusal] = frozenset()
        self._good = good = supervisor.state.good
        self._engines = EngineRecord(self._folder, good.engine if good else None, troubles, events)
        self._tasks: set[asyncio.Task[None]] = set()
        self._transfer: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    @property
    def degraded(self) -> str | None:
        """What is given up because memory ran out, in words."""
        return self._planner.degraded

    def resume(
        self, state: st.ChangeState, refused: frozenset[MemoryRefusal], degraded: str | None, *, anyway: bool
    ) -> None:
        """Go on where an earlier program was. ``anyway``: what is wanted starts although memory is short."""
        self.state, self.refused, self._planner.degraded = state, refused, degraded
        want = self._supervisor.state.want
        self.start_anyway = want.spec if anyway and want is not None else None

    # What can be asked.

    def ask(self, origin: st.Origin, overrides: Mapping[str, object] | None = None) -> int:
        """Want what the settings say now, with these overrides. Return the number of the wish."""
        self.post(st.Asked(origin, overrides))
        return self.state.number

    def begin(self) -> int:
        """Want what the settings say, with the flags that the daemon was started with."""
        return self.ask("start", self._request.overrides)

    def ask_up(self, flags: Mapping[str, object], *, reset: bool, forget: bool) -> int:
        """Want the same with more flags; ``reset`` drops the earlier ones, ``forget`` what memory refused."""
        if forget:
            self.refused = frozenset()
            removal = functools.partial(state_dir.forget_refused, self._folder)
            self._troubles.set("refused", attempt(removal, state_dir.REFUSED))
        wish = machine.pending(self.state)
        kept = wish.overrides if wish is not None else None
        base = state_dir.read_overrides(self._folder) if kept is None else kept
        return self.ask("up", merge({} if reset else base, flags))

    def retry(self) -> None:
        """Try again what was refused for a reason that may have passed."""
        self.post(st.RetryDue())

    async def planned(self, number: int) -> bool:
        """Wait until this wish is planned. Return whether it starts another server than the one that runs.

        Raises:
            QwenctlError: it was refused.
        """
        while self._is_unplanned(number):
            self._moved.clear()
            await self._moved.wait()
        refused = self.state.refused
        if refused is not None and refused.wish.number == number and not refused.rolled_back:
            raise error_of(refused.why)
        return self._planner.starts_another(number)

    async def given_over(self, number: int) -> st.Refused | None:
        """Wait until the supervisor has this wish, or a newer one. Return the refusal, if it was refused."""
        while self._is_unplanned(number) or getattr(self.state.stage, "wish", None) is not None:
            self._moved.clear()
            await self._moved.wait()
        refused = self.state.refused
        return refused if refused is not None and refused.wish.number == number else None

    def close(self) -> None:
        """End what is under way. What has arrived of a file is kept."""
        self.post(st.Closed())
        for task in self._tasks:
            task.cancel()

    # What the supervisor tells.

    def server_changed(self, server: supervised.State) -> None:
        """Keep a configuration that has generated a token; learn of one that was rejected."""
        if server.good is not self._good:
            self._good = server.good
            good = self._good
            trouble = attempt(lambda: write_good(self._folder, good), state_dir.GOOD)
            self._troubles.set("good", trouble)
        answer = machine.verdict(self.state, server)
        if answer is not None:
            self.post(answer)

    def out_of_memory(self, configuration: Configuration, why: Ending) -> None:
        """Plan something smaller than what ran out of memory."""
        refusal = oom_record.refusal(configuration.plan, why.cause)
        if why.cause == MEMORY_BUSY:  # others may leave: this is not remembered on the disk
            self.refused |= {refusal}
        self.post(st.OutOfMemory(configuration, refusal))

    # How the machine's actions are carried out.

    def post(self, event: st.Event) -> None:
        """Take an event, carry out what follows, and say that something changed."""
        before = self.state
        self.state, actions = machine.step(before, event)
        for name, fields in change_events(before, self.state):
            self._events.note(name, **fields)
        for action in actions:
            contained_now(functools.partial(self._do, action), self._undone)
        self._moved.set()
        self.on_change()

    def _do(self, action: st.Action) -> None:  # noqa: C901 - one case an action
        match action:
            case st.PlanWish(wish):
                self._spawn(self._plan(wish))
            case st.Fetch(wish, draft):
                self._transfer = self._spawn(self._fetch(wish, draft))
            case st.CancelFetch():
                if self._transfer is not None:
                    self._transfer.cancel()
            case st.Open(number, configuration):
                self._spawn(self._open(number, configuration))
            case st.Try(configuration):
                self._hand_over(configuration, supervised.Want(configuration))
            case st.Replace(instead_of, configuration):
                self._hand_over(configuration, supervised.Smaller(instead_of, configuration))
            case st.Keep(wish, configuration):
                self._keep(wish, configuration)
            case st.Remember(configuration, refusal):
                self._remember(configuration, refusal)
            case st.StartAnyway(configuration, why):
                self.start_anyway = configuration.spec
                self._events.note("nothing_smaller", error=why.message)

            case st.RefuseEngine() as refusal:
                if self._engines.refuse(refusal):
                    self.ask("engine", refusal.overrides)

    def _undone(self, error: Exception) -> None:
        self._troubles.set("effects", f"cannot carry out a change: {describe(error)}")

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _plan(self, wish: st.Wish) -> None:
        work = self._planner.plan(wish, self.refused, self._supervisor.state)
        answer = await contained(work, lambda error: st.PlanFailed(wish.number, bug_of(error)))
        if self._transfer is None or self._transfer.done():
            self.download = None  # of an engine
        self.post(answer)

    async def _fetch(self, wish: st.Wish, draft: Draft) -> None:
        async def fetching() -> st.Event:
            try:
                model = await model_file.obtain(draft, self._on_progress)
                configuration = await in_thread(lambda _: pipeline.configuration(draft, model))
            except (QwenctlError, OSError) as error:
                why = refusal_of(error)
                passing = why.passing and not model_file.is_local(draft.resolved)
                return st.FetchFailed(wish.number, replace(why, passing=passing))
            return st.Fetched(wish.number, configuration)

        try:
            event = await contained(fetching(), lambda error: st.FetchFailed(wish.number, bug_of(error)))
            self.download = None
            self.post(event)
        finally:
            self.download = None
            self.post(st.TransferEnded(wish.number))

    async def _open(self, number: int, configuration: Configuration) -> None:
        async def opening() -> st.Event:
            try:
                await self._gateway.prepare(configuration.settings, configuration)
            except (QwenctlError, OSError) as error:
                return st.OpenFailed(number, refusal_of(error))
            return st.Opened(number)

        self.post(await contained(opening(), lambda error: st.OpenFailed(number, bug_of(error))))

    def _hand_over(self, configuration: Configuration, event: supervised.Event) -> None:
        state, plan = self._supervisor.state, configuration.plan
        if not configuration.starts_like(state.want) or state.rejected is not None:
            self.start_anyway = None
            self._events.note(
                "planned", profile=plan.profile, quant=plan.quant, context_tokens=plan.context_tokens
            )
            for warning in plan.warnings:
                log.warning("%s", warning)
        self._supervisor.post(event)
        self._spawn(self._hear_verdict())

    async def _hear_verdict(self) -> None:
        """Learn what the supervisor says of a wish that changes nothing there: it tells of changes only."""
        await self._supervisor.settled()
        self.server_changed(self._supervisor.state)

    def _keep(self, wish: st.Wish, configuration: Configuration) -> None:
        self._engines.proved(configuration.engine)
        overrides = wish.overrides
        if overrides is not None:
            path = self._folder / state_dir.OVERRIDES
            trouble = attempt(lambda: write_json(path, dict(overrides)), state_dir.OVERRIDES)
            self._troubles.set("overrides", trouble)

    def _remember(self, configuration: Configuration, refusal: MemoryRefusal) -> None:
        self.refused |= {refusal}
        self._planner.degraded = describe_refused_memory(self.refused)
        if refusal.place == "start":
            return  # other programs held the memory: another day it may be free
        model = oom_record.model_key(configuration.profile, configuration.settings.model.path)
        key = oom_record.key(configuration.hardware, model, configuration.engine)
        trouble = attempt(lambda: oom_record.remember(self._folder, key, refusal), state_dir.REFUSED)
        self._troubles.set("refused", trouble)
        log.warning("out of memory: %s is given up", refusal.plan)
        plan = configuration.plan
        self._events.note(
            "degraded",
            quant=plan.quant,
            context_tokens=plan.context_tokens,
            kv_type=plan.kv_type,
            cache_ram_mib=plan.cache_ram_mib,
            where=refusal.place,
            bytes=refusal.bytes,
        )

    def _on_progress(self, progress: Progress) -> None:
        self.download = Download(progress.file, progress.bytes, progress.total_bytes, progress.bytes_per_s)
        self.on_change()

    def _is_unplanned(self, number: int) -> bool:
        state = self.state
        wishes = (*state.waiting, *((state.planning,) if state.planning is not None else ()))
        return any(wish.number == number for wish in wishes)


def bug_of(error: Exception) -> st.Refusal:
    """Return the refusal of a wish that met an unexpected error."""
    return refusal_of_bug(describe(error))
