"""The beginning of a daemon that takes the place of an earlier program of its process.

What the document says is checked. A server that cannot be used is ended, and starts anew as after a crash.
The sockets and the clients are kept all the same.
"""

import asyncio
import contextlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from qwenctl import __version__
from qwenctl.control.state_dir import adopt_lock
from qwenctl.control.status_schema import ReexecStatus
from qwenctl.daemon.daemon_parts import DaemonParts
from qwenctl.daemon.event_log import now
from qwenctl.daemon.file_watch import settings_mark
from qwenctl.daemon.handover import Handover, load
from qwenctl.daemon.handover_states import state_of, wishes_of
from qwenctl.daemon.new_program import read_document
from qwenctl.daemon.reexec_guard import dismiss
from qwenctl.daemon.server_effects import ServerEffects
from qwenctl.daemon.socket_activation import handed_sockets
from qwenctl.engine.address import Address
from qwenctl.fetch.clock import in_thread
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise.adopted_child import is_our_child
from qwenctl.supervise.exits import KILLED, Ending
from qwenctl.supervise.identity import reap
from qwenctl.supervise.supervisor import Supervisor

ANSWERS_WITHIN_S = 3.0
IN_LINE_WITHIN_S = 10.0
"""So long the gate may take to open. After that the daemon goes on trying, and the guard is dismissed."""
GONE = Ending(KILLED, "the server did not outlive the change of the program")


@dataclass(slots=True)
class Adoption:
    """One handover, as the new program sees it. ``usable``: the server runs, is ours and answers."""

    handover: Handover
    usable: bool = False
    _ours: bool = False
    _told: bool = False

    @classmethod
    def of(cls, document: int) -> "Adoption":
        """Read the document.

        Raises:
            ControlError: it is none, or of a form that this version does not know.
        """
        content = read_document(document)
        os.close(document)
        adoption = cls(load(content))
        guard = adoption.handover.descriptors.guard
        if guard is not None:
            os.set_inheritable(guard, False)
        return adoption

    def listening(self) -> socket.socket:
        """Return the control socket."""
        return handed_sockets((self.handover.descriptors.control,))[0]

    def passed(self) -> tuple[socket.socket, ...]:
        """Return the sockets that a service manager passed to the first program of this process."""
        return handed_sockets(self.handover.descriptors.passed)

    async def hold(self, folder: Path) -> IO[str]:
        """Hold the folder with the lock of the earlier program, and see whether its server can be used.

        Raises:
            ControlError: the lock is not there, or holds nothing.
        """
        held = adopt_lock(folder, self.handover.descriptors.lock)
        await self._check()
        return held

    async def _check(self) -> None:
        """See whether the server can be used, and end one that can't."""
        child, one = self.handover.child, lc.live(state_of(self.handover))
        if child is None or one is None:
            return
        self._ours = is_our_child(child.identity)
        self.usable = self._ours and await _answers(one.spec.address)
        if not self.usable:
            await in_thread(lambda _: reap(child.identity))

    def supervise(self, supervisor: Supervisor, effects: ServerEffects) -> None:
        """Let the supervisor go on with the server. Call it before a deployment is made.

        A server of ours that has ended is taken over, too: its end says why it came.
        """
        state, child = state_of(self.handover), self.handover.child
        one = lc.live(state)
        process = None
        if self._ours and child is not None and one is not None:
            try:
                process = effects.adopt(child, one.spec)
            except OSError:
                self.usable = False
                reap(child.identity)
        elif child is not None:
            for each in (child.pipe, child.lifeline):
                if each is not None:
                    with contextlib.suppress(OSError):
                        os.close(each)
        supervisor.adopt(state, process, GONE)

    def resume(self, parts: DaemonParts) -> None:
        """Let the other parts go on with what they knew."""
        handed, child = self.handover, self.handover.child
        wishes, refused = wishes_of(handed), frozenset(handed.refused)
        parts.deployment.resume(wishes, refused, handed.degraded, anyway=handed.start_anyway)
        pid = child.identity.pid if child is not None and self.usable else None
        parts.publisher.resume(handed.since, handed.shown_phase, pid, handed.newer_commit)
        parts.publisher.reexec = self._outcome() if handed.lost is not None else None
        parts.events.resume(handed.events)
        parts.troubles.resume(handed.troubles)

    def _outcome(self) -> ReexecStatus:
        handed = self.handover
        waited_s = round(time.monotonic() - handed.paused_at, 3)
        kept = self.usable or handed.child is None
        return ReexecStatus(
            handed.number, now(), handed.version, __version__, waited_s, child_kept=kept, error=handed.lost
        )

    async def finish(self, parts: DaemonParts) -> None:
        """Wait until clients are served again, and say so."""
        gateway = parts.gateway
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IN_LINE_WITHIN_S):
                await gateway.in_line.wait()
        gateway.drop_handed()
        handed = self.handover
        if gateway.quiescence is not None:
            gateway.quiescence.resume(handed.streams, handed.continued)
            parts.publisher.resume_counts()
        parts.publisher.reexec = done = self._outcome()
        said = {
            "before": done.before,
            "to": done.to,
            "waited_s": done.waited_s,
            "child_kept": done.child_kept,
        }
        parts.events.note("reexec" if handed.lost is None else "reexec_undone", **said, why=handed.lost)
        parts.publisher.publish()
        if handed.settings_mark != settings_mark(parts.publisher.config):
            parts.deployment.ask("file")  # it was saved while nobody watched it
        parts.notifier.grant(None)
        parts.notifier.ready()
        self.dismiss_guard()

    def dismiss_guard(self) -> None:
        """Tell the guard that nothing is to be undone."""
        guard = self.handover.descriptors.guard
        if guard is not None and not self._told:
            dismiss(guard)
        self._told = True


async def _answers(address: Address) -> bool:
    """Return whether a server takes connections and says anything at all."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            if address.socket is not None:
                reader, writer = await asyncio.open_unix_connection(address.socket)
            else:
                where = address.url.removeprefix("http://").rpartition(":")[0].strip("[]")
                reader, writer = await asyncio.open_connection(where, address.port)
            writer.write(b"GET /health HTTP/1.0\r\n\r\n")
            said = await reader.read(1)
            writer.close()
    except (OSError, TimeoutError):
        return False
    return bool(said)
