"""The daemon's own HTTP, on a Unix socket that only its owner can open."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web

from qwenctl.daemon import streams
from qwenctl.daemon.event_log import EventLog
from qwenctl.errors import QwenctlError, SettingsError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ProgramChange(Protocol):
    """The way to another program, in two steps: who asked is answered between them."""

    async def prepare(self, program: tuple[str, ...], wait_s: float | None) -> dict[str, object]:
        """Bring everything to rest for another program. Return what is answered before it is executed."""

    async def execute(self) -> None:
        """Become that program. It returns only if that cannot be done: then all goes on."""


class Commands(Protocol):
    """What the daemon can be told and asked."""

    events: EventLog
    server_log: Path

    def status(self) -> dict[str, object]:
        """Return the status."""

    def apply(self, flags: Mapping[str, object], *, reset: bool, forget: bool) -> int:
        """Want the same with more flags. Return the number of the change at once."""

    async def reload(self) -> tuple[int, bool]:
        """Read the config file again. Return the change's number, and whether it starts another server."""

    def look_for_engine(self) -> int:
        """Take the engine that is chosen now. Return the number of the change at once."""

    async def restart(self) -> None:
        """Start the server afresh."""

    def reexecution(self) -> "ProgramChange":
        """Return what puts another program in the place of this one."""

    def down(self) -> None:
        """End the daemon."""

    async def owner(self, request: web.Request) -> web.StreamResponse:
        """Pass a request of the owner on to the server."""


class Listener:
    """The open socket. Its file can be put back if someone removed it.

    ``listening`` is the socket of an earlier program of this process.
    """

    def __init__(self, runner: web.AppRunner, path: Path, listening: socket.socket | None = None) -> None:
        self._runner, self._path, self._listening = runner, path, listening
        self._site: web.SockSite | None = None

    async def listen(self) -> None:
        """Bind the socket file, 0600, unless it is there.

        Raises:
            OSError: it cannot be bound.
        """
        if self._site is not None and self._path.is_socket():
            return
        if self._site is not None:
            with contextlib.suppress(FileNotFoundError):
                await self._site.stop()
        if self._site is not None or self._listening is None or not self._path.is_socket():
            self._path.unlink(missing_ok=True)
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(str(self._path))
            self._path.chmod(0o600)
        self._site = web.SockSite(self._runner, self._listening)
        await self._site.start()

    @property
    def file(self) -> int:
        """The open file of the socket."""
        return -1 if self._listening is None else self._listening.fileno()


@contextlib.asynccontextmanager
async def serve(
    commands: Commands, path: Path, listening: socket.socket | None = None
) -> AsyncIterator[Listener]:
    """Listen on the socket file ``path`` while the context is open."""
    app = web.Application(middlewares=[_errors])
    app.router.add_get("/v1/status", lambda _: _answer(commands.status()))
    app.router.add_get("/v1/events", lambda request: streams.events(request, commands.events))
    app.router.add_get("/v1/logs", lambda request: streams.logs(request, commands.server_log))
    app.router.add_post("/v1/apply", lambda request: _apply(commands, request))
    app.router.add_post("/v1/reload", lambda _: _reload(commands))
    app.router.add_post("/v1/engine", lambda _: _answer({"change": commands.look_for_engine()}))
    app.router.add_post("/v1/restart", lambda _: _restart(commands))
    app.router.add_post("/v1/reexec", lambda request: _reexec(commands, request))
    app.router.add_post("/v1/down", lambda _: _down(commands))
    for own in ("/slots{tail:.*}", "/props"):
        app.router.add_route("*", own, commands.owner)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    listener = Listener(runner, path, listening)
    try:
        await listener.listen()
        yield listener
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except QwenctlError as error:
        return _refuse(400, error.code, error.message, error.hint)
    except web.HTTPException as error:
        return _refuse(
            error.status, "usage", f"cannot {request.method} {request.path}: {error.reason.lower()}", None
        )


async def _apply(commands: Commands, request: web.Request) -> web.Response:
    body = await _table(request, "apply settings")
    whole = "overrides" in body
    flags = body.get("overrides" if whole else "flags", {})
    if not isinstance(flags, dict):
        raise SettingsError('cannot apply settings: "flags" and "overrides" are tables of settings')
    reset, forget = body.get("reset", False), body.get("forget", False)
    if not isinstance(reset, bool) or not isinstance(forget, bool):
        raise SettingsError('cannot apply settings: "reset" and "forget" are true or false')
    return await _answer({"change": commands.apply(flags, reset=reset or whole, forget=forget)})


async def _table(request: web.Request, purpose: str) -> dict[str, object]:
    try:
        body = await request.json()
    except ValueError as error:
        raise SettingsError(f"cannot {purpose}: the body is no JSON") from error
    if not isinstance(body, dict):
        raise SettingsError(f"cannot {purpose}: the body is no table")
    return body


async def _reload(commands: Commands) -> web.Response:
    number, changed = await commands.reload()
    return await _answer({"change": number, "changed": changed})


async def _restart(commands: Commands) -> web.Response:
    await commands.restart()
    return await _answer({"accepted": True})


async def _reexec(commands: Commands, request: web.Request) -> web.StreamResponse:
    body = await _table(request, "re-execute")
    program, wait_s = body.get("program"), body.get("wait_s")
    if not isinstance(program, list) or not all(isinstance(each, str) for each in program) or not program:
        raise SettingsError('cannot re-execute: "program" is a list of words')
    if wait_s is not None and (isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or wait_s < 0):
        raise SettingsError('cannot re-execute: "wait_s" is a number of seconds')
    change = commands.reexecution()
    answer = web.json_response(await change.prepare(tuple(program), wait_s))
    answer.force_close()
    with contextlib.suppress(ConnectionError):  # who asked has gone; it is done all the same
        await answer.prepare(request)
        await answer.write_eof()
    await change.execute()
    return answer


async def _down(commands: Commands) -> web.Response:
    commands.down()
    return await _answer({"accepted": True})


async def _answer(data: object) -> web.Response:
    return web.json_response(data)


def _refuse(status: int, code: str, message: str, hint: str | None) -> web.Response:
    error = {"code": code, "message": message, "hint": hint}
    return web.Response(status=status, text=json.dumps({"error": error}), content_type="application/json")
