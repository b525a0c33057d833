"""Answers that outlive their client: a stream whose request names its conversation goes on in the child.

The pages of llama-server ask so, and take the stream up again after a reload (``GET /v1/stream``). Such an
answer is use of the model. A server that is told to stop while one runs hangs, so each is ended first.
Source: llama-server b11434, tools/server/server-stream.cpp.
"""

import asyncio
import logging
from collections.abc import Callable

from qwenctl.engine.api import ERRORS, ServerApi
from qwenctl.gate.upstream import UpstreamState

log = logging.getLogger(__name__)

CONVERSATION_HEADER = "X-Conversation-Id"
LOOK_EVERY_S = 1.0
"""How often the child is asked whether an answer without a client still runs."""
MOST = 256
"""So many are kept in mind, the newest ones: clients invent the names, and a busy gate never looks."""


class ResumableStreams:
    """The conversations whose answers were sent to a child and are not known to be over."""

    def __init__(self) -> None:
        self._children: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._children)

    @property
    def conversations(self) -> tuple[str, ...]:
        """Their names, the newest last."""
        return tuple(self._children)

    def begin(self, conversation: str | None, child: int) -> None:
        """Note that the answer of a conversation begins at a child. None: the request names none."""
        if conversation:
            self._children.pop(conversation, None)
            self._children[conversation] = child
            if len(self._children) > MOST:
                del self._children[next(iter(self._children))]

    def over(self, conversation: str | None) -> None:
        """Note that an answer came to its end."""
        if conversation:
            self._children.pop(conversation, None)

    async def look(self, state: UpstreamState) -> None:
        """Ask the child which answers still run, and forget the others. Never raises.

        An answer that begins meanwhile is kept: the child did not know of it when it was asked.
        """
        asked = dict(self._children)
        here = tuple(each for each, child in asked.items() if child == state.child)
        running: frozenset[str] = frozenset()
        if here and state.address is not None:
            try:
                async with ServerApi(state.address) as api:
                    running = await api.running_streams(here)
            except ERRORS as error:
                log.info("cannot look up streams: %s", error)
        over = [each for each, child in asked.items() if each not in running or child != state.child]
        for each in over:
            if self._children.get(each) == asked[each]:
                del self._children[each]

    async def wait(self, state: UpstreamState, until: float, wanted: Callable[[], bool]) -> None:
        """Wait until no answer runs at the child, or until a time of the loop's clock, while it is wanted."""
        loop = asyncio.get_running_loop()
        while self._children and loop.time() < until and wanted():
            await self.look(state)
            if self._children:
                await asyncio.sleep(min(LOOK_EVERY_S, max(until - loop.time(), 0)))

    async def end(self, state: UpstreamState) -> None:
        """End the answers that run at the child. Never raises."""
        conversations, self._children = self.conversations, {}
        if not conversations or state.address is None:
            return
        async with ServerApi(state.address) as api:
            for each in conversations:
                try:
                    await api.end_stream(each)
                    log.info("ended a stream that nobody reads")
                except ValueError as error:  # it answered, so it can be asked for the next one
                    log.warning("cannot end a stream: %s", error)
                except ERRORS as error:
                    log.warning("cannot end streams: %s", error)
                    return
