"""Notice the end of a process without reaping it, so that its pid cannot be used again meanwhile."""

import asyncio
import contextlib
import os
import select
import sys


class ExitWatch:
    """The end of one child. The descriptor is opened at once: without one the start can still fail."""

    def __init__(self, pid: int) -> None:
        """Begin to watch.

        Raises:
            OSError: no descriptor is left.
        """
        self._open = contextlib.ExitStack()
        self._gone = False
        if sys.platform == "linux":
            self._descriptor = os.pidfd_open(pid)
            self._open.callback(os.close, self._descriptor)
        else:
            queue = self._open.enter_context(contextlib.closing(select.kqueue()))
            self._descriptor = queue.fileno()
            exit_of = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            try:
                queue.control([exit_of], 0)
            except ProcessLookupError:
                self._gone = True

    async def wait(self) -> None:
        """Return when it has ended."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        if self._gone:
            return
        loop.add_reader(self._descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._descriptor)

    def close(self) -> None:
        """Let go of the descriptor."""
        self._open.close()
