"""kqueue on top of Linux's epoll and pidfd, as far as Python's event loop and qwenctl use it.

READ, WRITE and PROC with NOTE_EXIT. What holds on a Mac holds here: a process that has ended, waited for or
not, is ESRCH; NOTE_EXIT comes once, and its filter is gone then. Source: kqueue(2), XNU's kern_exit.c.
"""

import errno
import os
import select
import signal
from typing import Any, NamedTuple

_epoll, _in, _out, _away = select.epoll, select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR
_pidfd, _open = os.pidfd_open, open
READ, WRITE, PROC = -1, -2, -5
ADD, DELETE, ENABLE, DISABLE, ONESHOT, CLEAR, EOF = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x8000
EXIT = 0x80000000
CONSTANTS = {
    "KQ_FILTER_READ": READ,
    "KQ_FILTER_WRITE": WRITE,
    "KQ_FILTER_PROC": PROC,
    "KQ_EV_ADD": ADD,
    "KQ_EV_DELETE": DELETE,
    "KQ_EV_ENABLE": ENABLE,
    "KQ_EV_DISABLE": DISABLE,
    "KQ_EV_ONESHOT": ONESHOT,
    "KQ_EV_CLEAR": CLEAR,
    "KQ_EV_EOF": EOF,
    "KQ_NOTE_EXIT": EXIT,
}
"""Source: sys/event.h of macOS."""


class Kevent(NamedTuple):
    """One wish or one event."""

    ident: Any
    filter: int = READ
    flags: int = ADD
    fflags: int = 0
    data: int = 0
    udata: int = 0


class Kqueue:
    """The queue. Its descriptor is readable while an event waits, as on a Mac."""

    def __init__(self) -> None:
        self._poll = _epoll()
        self._files: dict[int, set[int]] = {}
        self._processes: dict[int, int] = {}
        self.closed = False

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._poll.fileno()

    def close(self) -> None:
        """Close the queue."""
        for descriptor in self._processes:
            os.close(descriptor)
        self._processes.clear()
        self._poll.close()
        self.closed = True

    def control(
        self, changes: list[Kevent] | None, max_events: int, timeout: float | None = None
    ) -> list[Kevent]:
        """Change what is waited for, then wait."""
        for change in changes or ():
            self._change(change)
        if max_events <= 0:
            return []
        found: list[Kevent] = []
        for descriptor, mask in self._poll.poll(-1 if timeout is None else timeout, max_events):
            found += self._events(descriptor, mask)
        return found

    def _change(self, change: Kevent) -> None:
        if change.filter == PROC:
            self._watch(change.ident)
            return
        descriptor = change.ident if isinstance(change.ident, int) else change.ident.fileno()
        kinds = self._files.get(descriptor, set())
        if change.flags & DELETE:
            if change.filter not in kinds:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            wanted = kinds - {change.filter}
        else:
            wanted = kinds | {change.filter}
        self._apply(descriptor, wanted)

    def _apply(self, descriptor: int, wanted: set[int]) -> None:
        mask = (_in if READ in wanted else 0) | (_out if WRITE in wanted else 0)
        known = self._files.pop(descriptor, None) is not None
        if not wanted:
            self._poll.unregister(descriptor)
            return
        if known:
            try:
                self._poll.modify(descriptor, mask)
            except FileNotFoundError:  # it was closed, which ends its filters, and its number is used again
                known = False
        if not known:
            self._poll.register(descriptor, mask)
        self._files[descriptor] = wanted

    def _watch(self, pid: int) -> None:
        descriptor = _pidfd(pid)  # ESRCH where there is none
        with _open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":
                os.close(descriptor)
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        self._processes[descriptor] = pid
        self._poll.register(descriptor, _in)

    def _events(self, descriptor: int, mask: int) -> list[Kevent]:
        if (pid := self._processes.pop(descriptor, None)) is not None:
            self._poll.unregister(descriptor)
            os.close(descriptor)
            return [Kevent(pid, PROC, ADD | CLEAR | ONESHOT, EXIT, int(signal.SIGKILL))]
        kinds = self._files.get(descriptor, set())
        end = EOF if mask & _away else 0
        return [
            Kevent(descriptor, kind, ADD | end)
            for kind, bit in ((READ, _in), (WRITE, _out))
            if kind in kinds and mask & (bit | _away)
        ]
