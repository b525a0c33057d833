"""Two applications on loopback, in a thread of their own: an API, and the storage that it sends on to."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class LoopbackApps:
    """Serve until the end of the block. ``storage`` is the address of the second application."""

    storage: str = field(default="", kw_only=True)
    _thread: threading.Thread | None = field(default=None, kw_only=True)
    _stop: Callable[[], None] = field(default=lambda: None, kw_only=True)

    def handlers(self) -> tuple[Handler, Handler]:
        """What answers for the API and for the storage."""
        raise NotImplementedError

    def listening(self, api: str) -> None:
        """Take the address of the API, before anybody asks."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(started.set)), daemon=True)
        self._thread.start()
        assert started.wait(10)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop()
        assert self._thread is not None
        self._thread.join(10)

    async def serve(self, started: Callable[[], None]) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.call_soon_threadsafe(stopping.set)

        self._stop = stop
        runners = []
        for handler in self.handlers():
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handler)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            runners.append(runner)
        api, self.storage = (f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in runners)
        self.listening(api)
        started()
        await stopping.wait()
        for runner in runners:
            await runner.cleanup()
