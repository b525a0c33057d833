"""The daemon's own HTTP, on a Unix socket that only its owner can open."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web

from qwenctl.errors import QwenctlError, SettingsError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Commands(Protocol):
    """What the daemon can be told."""

    def status(self) -> dict[str, object]:
        """Return the status."""

    async def apply(self, overrides: Mapping[str, object] | None) -> bool:
        """Take new overrides (None: the same again); return whether anything changed."""

    def restart(self) -> None:
        """Start the server afresh."""

    def down(self) -> None:
        """End the daemon."""


@contextlib.asynccontextmanager
async def serve(commands: Commands, socket: Path) -> AsyncIterator[None]:
    """Listen on ``socket`` (0600) while the context is open."""
    app = web.Application(middlewares=[_errors])
    app.router.add_get("/v1/status", lambda _: _answer(commands.status()))
    app.router.add_post("/v1/apply", lambda request: _apply(commands, request))
    app.router.add_post("/v1/restart", lambda _: _do(commands.restart))
    app.router.add_post("/v1/down", lambda _: _do(commands.down))
    socket.unlink(missing_ok=True)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        socket.chmod(0o600)
        yield
    finally:
        await runner.cleanup()
        socket.unlink(missing_ok=True)


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
    try:
        body = await request.json()
    except ValueError as error:
        raise SettingsError("cannot apply settings: the body is no JSON") from error
    overrides = body.get("overrides") if isinstance(body, dict) else None
    if not isinstance(overrides, dict):
        raise SettingsError('cannot apply settings: the body has no "overrides" table')
    return await _answer({"changed": await commands.apply(overrides)})


async def _do(command: Callable[[], None]) -> web.Response:
    command()
    return await _answer({"accepted": True})


async def _answer(data: object) -> web.Response:
    return web.json_response(data)


def _refuse(status: int, code: str, message: str, hint: str | None) -> web.Response:
    error = {"code": code, "message": message, "hint": hint}
    return web.Response(status=status, text=json.dumps({"error": error}), content_type="application/json")
