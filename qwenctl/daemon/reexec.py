"""Put another program in the place of this one: ask it, bring everything to rest, pass it on, execute it.

Whatever goes wrong before the last step is told, and everything goes on as it was.
"""

import asyncio
import logging
import os
import time

from qwenctl import __version__
from qwenctl.control.status_schema import ReexecStatus
from qwenctl.daemon import handover_states as by_value
from qwenctl.daemon import new_program, reexec_guard
from qwenctl.daemon.control_server import Listener
from qwenctl.daemon.daemon_parts import DaemonParts
from qwenctl.daemon.event_log import now
from qwenctl.daemon.file_watch import settings_mark
from qwenctl.daemon.handover import SCHEMA, Descriptors, HandedChild, Handover, dump
from qwenctl.errors import ControlError
from qwenctl.files import reason
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise.identity import identify

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.01
"""How often it is looked whether answers still run: their ends tell nobody. A client waits so much longer."""
DRAIN_S = 30.0
"""How long answers may run where no settings say it: the default of [gate] drain_timeout_s."""
START_S = 60.0
"""How long a program may take to start, on a slow disk, too."""
WAIT_HINT = "try again later, or with a longer --wait; everything goes on as it was"
SETTLE_HINT = "try again when qwenctl status shows that the change has settled"


class Reexecution:
    """The re-executions of one daemon. ``prepare`` one, answer who asked, and ``execute`` it."""

    def __init__(self, parts: DaemonParts, lock: int, listener: Listener) -> None:
        """``lock``: the open file that holds the folder. ``listener``: that of the control socket."""
        self._lock, self._listener, self._parts = lock, listener, parts
        self._supervisor, self._deployment, self._gateway = parts.supervisor, parts.deployment, parts.gateway
        self._publisher, self._events, self._notifier = parts.publisher, parts.events, parts.notifier
        self._under_way = False
        self._program: tuple[str, ...] = ()
        self._version, self._paused_at = "", 0.0

    @property
    def _number(self) -> int:
        last = self._publisher.reexec
        return 1 if last is None else last.number + 1

    async def prepare(self, program: tuple[str, ...], wait_s: float | None) -> dict[str, object]:
        """Bring everything to rest for this program, within ``wait_s``. Return what the answer says.

        Raises:
            ControlError: the program cannot take over, or something goes on for too long. All is as before.
        """
        if self._under_way:
            raise ControlError(
                "cannot re-execute: another re-execution is under way", hint="wait for its end"
            )
        self._under_way, answer = True, None
        try:
            answer = await self._prepare(program, wait_s)
        finally:
            self._under_way = answer is not None
        return answer

    async def execute(self) -> None:
        """Become the prepared program. It returns only if that cannot be done; then all goes on."""
        try:
            why = self._execute()
        except OSError as error:
            why = f"cannot execute {self._program[0]}: {reason(error)}"
        log.warning("re-execution called off: %s", why)
        await self._go_on(why)
        self._under_way = False

    async def _prepare(self, program: tuple[str, ...], wait_s: float | None) -> dict[str, object]:
        if (why := self._unsettled()) is not None:
            raise ControlError(f"cannot re-execute: {why}", hint=SETTLE_HINT)
        self._program = program
        document = self._write(guard=None)
        try:
            command = new_program.check_command(program, new_program.own_arguments(), document)
            self._version = await new_program.preflight(command, document)
        finally:
            os.close(document)
        self._notifier.reloading()
        self._paused_at = time.monotonic()
        quiescence = self._gateway.quiescence
        if quiescence is not None:
            await quiescence.begin()
        busy = await self._rest(self._wait_s() if wait_s is None else wait_s)
        if busy is not None:
            await self._go_on(busy)
            raise ControlError(f"cannot re-execute: {busy}", hint=WAIT_HINT)
        return {"number": self._number, "from": __version__, "to": self._version}

    async def _rest(self, within_s: float) -> str | None:
        """Wait until nothing is under way. Return what still is."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while (busy := self._busy()) is not None and loop.time() < until:
            if self._unsettled() is not None:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        if busy is None and self._gateway.quiescence is not None:
            await self._gateway.quiescence.finish()
        return self._busy()

    def _busy(self) -> str | None:
        """Return what is under way now, in words."""
        if (why := self._unsettled()) is not None:
            return why
        if not by_value.lasts(self._supervisor.state):
            phase = type(self._supervisor.state.phase).__name__.lower()
            return f"the server is {phase}"
        quiescence = self._gateway.quiescence
        running = 0 if quiescence is None else quiescence.busy()
        if running == 1:
            return "1 answer still runs"
        return f"{running} answers still run" if running else None

    def _unsettled(self) -> str | None:
        """Return what is on its way that no other program can go on with."""
        wishes = self._deployment.state
        if not by_value.settled(wishes):
            return "a change is on its way"
        return "nothing has served yet" if wishes.kept is None else None

    def _wait_s(self) -> float:
        configuration = lc.in_force(self._supervisor.state)
        return DRAIN_S if configuration is None else configuration.settings.gate.drain_timeout_s

    def _execute(self) -> str:
        """Become the program; return why not."""
        if (busy := self._busy()) is not None:
            return busy
        arguments, own = new_program.own_arguments(), new_program.own_program()
        variables = self._notifier.variables
        guard = None
        kept_by_another = self._notifier.managed or new_program.is_launchd_job() or os.getpid() == 1
        if not kept_by_another:
            spare = self._write(guard=None, lost=f"{self._program[0]} ended before it was ready")
            again = (*own, *arguments, new_program.HANDOVER, str(spare))
            files = (*self._document(None).files(), spare)
            try:
                guard = reexec_guard.stand_guard(again, variables, files)
            finally:
                os.close(spare)
        document = self._write(guard=guard)
        command = (*self._program, *arguments, new_program.HANDOVER, str(document))
        self._notifier.grant(START_S)  # no program feeds the watchdog until the new one runs
        self._publisher.hand_over()
        log.info("re-executing %s, version %s", self._program[0], self._version)
        try:
            new_program.execute(command, variables, (*self._document(guard).files(), document))
        finally:
            os.close(document)
            if guard is not None:
                reexec_guard.dismiss(guard)
        return "the program was not executed"

    async def _go_on(self, why: str) -> None:
        waited_s = round(time.monotonic() - self._paused_at, 3)
        if self._gateway.quiescence is not None:
            await self._gateway.quiescence.end()
        self._notifier.grant(None)
        self._notifier.ready()
        self._events.note("reexec_called_off", to=self._version, why=why, waited_s=waited_s)
        self._publisher.reexec = ReexecStatus(
            self._number, now(), __version__, self._version, waited_s, child_kept=True, error=why
        )
        self._publisher.publish()

    def _write(self, *, guard: int | None, lost: str | None = None) -> int:
        return new_program.document_file(dump(self._document(guard, lost)))

    def _document(self, guard: int | None, lost: str | None = None) -> Handover:
        """Return the state of every part."""
        table = by_value.ConfigurationTable()
        server = by_value.server_of(self._supervisor.state, table)
        change = by_value.change_of(self._deployment.state, table)
        process, quiescence = self._supervisor.process, self._gateway.quiescence
        identity = identify(process.pid) if process is not None else None
        child = None
        if process is not None and identity is not None:
            loaded = self._parts.effects.loaded
            child = HandedChild(identity, process.pipe, process.log_so_far, loaded, process.lifeline)
        deployment, publisher = self._deployment, self._publisher
        want = self._supervisor.state.want
        anyway = want is not None and deployment.start_anyway == want.spec
        return Handover(
            schema=SCHEMA,
            number=self._number,
            version=__version__,
            paused_at=self._paused_at,
            descriptors=Descriptors(self._lock, self._listener.file, self._gateway.passed_files, guard),
            configurations=tuple(table.all),
            server=server or by_value.NO_SERVER,
            change=change or by_value.NO_CHANGE,
            child=child,
            gate=() if quiescence is None else quiescence.passed(),
            streams=() if quiescence is None else quiescence.streams,
            continued=0 if quiescence is None else quiescence.continued,
            refused=tuple(deployment.refused),
            start_anyway=anyway,
            degraded=deployment.degraded,
            troubles=self._parts.troubles.by_place(),
            since=publisher.since,
            shown_phase=publisher.shown_phase,
            newer_commit=publisher.newer_commit,
            settings_mark=settings_mark(publisher.config),
            events=tuple(self._events.since(0)),
            lost=lost,
        )
