"""Which answers without a client are kept in mind, against a server that answers on command."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from qwenctl.engine.address import Address
from qwenctl.gate.resumable import MOST, ResumableStreams
from qwenctl.gate.upstream import UpstreamState

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def against(folder: Path, answer: Answer, scenario: Callable[[UpstreamState], Awaitable[None]]) -> None:
    """Run a scenario beside a server at a Unix socket."""

    async def both() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        socket = folder / "s"
        await web.UnixSite(runner, str(socket)).start()
        try:
            async with asyncio.timeout(30):
                await scenario(UpstreamState("ready", child=1, address=Address(str(socket), None)))
        finally:
            await runner.cleanup()

    asyncio.run(both())


def test_an_answer_that_begins_during_a_look_is_not_forgotten(tmp_path: Path) -> None:
    """The server was asked before it knew of the answer. Forgotten, it would hang when it is told to stop."""
    streams = ResumableStreams()

    async def none_runs(_: web.BaseRequest) -> web.StreamResponse:
        streams.begin("new", 1)
        return web.json_response([])

    async def scenario(state: UpstreamState) -> None:
        streams.begin("old", 1)
        streams.begin("of the child before", 0)
        await streams.look(state)
        assert list(streams.conversations) == ["new"]

    against(tmp_path, none_runs, scenario)


def test_one_answer_that_cannot_be_ended_does_not_keep_the_others(tmp_path: Path) -> None:
    streams, asked = ResumableStreams(), []

    async def refuse_first(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.query["conv_id"])
        return web.Response(status=400 if len(asked) == 1 else 204)

    async def scenario(state: UpstreamState) -> None:
        for each in ("a", "b", "c"):
            streams.begin(each, 1)
        await streams.end(state)
        assert asked == ["a", "b", "c"]
        assert not streams

    against(tmp_path, refuse_first, scenario)


def test_the_newest_conversations_are_kept_and_never_more_than_a_few() -> None:
    """A client may invent a name for each request and leave, and a busy gate never looks."""
    streams = ResumableStreams()
    streams.begin("first", 1)
    for number in range(MOST - 1):
        streams.begin(str(number), 1)
    streams.begin("first", 1)
    streams.begin("last", 1)
    assert len(streams.conversations) == MOST
    assert {"first", "last"} <= set(streams.conversations)
    assert "0" not in streams.conversations
