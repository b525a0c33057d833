"""Bring an answer that has begun to its end at another server."""

import aiohttp
from aiohttp import web

from qwenctl.gate import forward
from qwenctl.gate.continuation.next_part import longer_request, next_part, read_request, why_not
from qwenctl.gate.continuation.splice import Splicer, StreamFormat
from qwenctl.gate.continuation.token_counts import count_tokens
from qwenctl.gate.response import ResponseWriter
from qwenctl.gate.upstream_request import ChildLost, UpstreamRequest

CONTINUED = b": continued\n\n"
"""What a client is told that wants to know: a comment, which every other client skips."""


def can_finish(form: StreamFormat | None, sent: UpstreamRequest, answer: ResponseWriter) -> bool:
    """Return whether the next server may be asked for the rest of this answer."""
    record = sent.record
    if form is None or record is None or record.lost or answer.status != 200 or not answer.begun:
        return False
    if answer.response is None or answer.response.content_type != "text/event-stream":
        return False
    asked = read_request(sent.body)
    return asked is not None and why_not(form, asked, record.text()) is None


async def finish(
    client: aiohttp.ClientSession,
    base: str,
    form: StreamFormat,
    sent: UpstreamRequest,
    answer: ResponseWriter,
) -> web.StreamResponse | ChildLost:
    """Ask for the rest of an answer, and send it. What ``can_finish`` said holds.

    A server that gives no rest ends the record, so that no other one is asked.
    """
    asked, record = read_request(sent.body), sent.record
    if asked is None or record is None:
        return ChildLost.CUT
    text = record.text()
    counts = None
    if text.pieces and (form.count_path is not None or not text.tokens):
        longer = longer_request(form, asked, text)
        counts = await count_tokens(client, base, form, asked, longer, text)
    part = next_part(form, asked, text, counts, record.take_ms())
    if part is None:
        record.lost = True
        return ChildLost.CUT
    await answer.resume(CONTINUED)
    done = await forward.forward_rest(client, base, sent, answer, part.body, Splicer(form, part.seam))
    if done is None:
        record.lost = True
        return ChildLost.CUT
    return done
