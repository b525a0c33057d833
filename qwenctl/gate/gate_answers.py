"""Send the answers that the gate gives by itself: the child is away, or the request can't be sent again."""

from aiohttp import web

from qwenctl.gate import unavailable
from qwenctl.gate.exchange import Exchange
from qwenctl.gate.replay import AfterLoss
from qwenctl.gate.upstream import UpstreamState

JSON = [("Content-Type", "application/json")]


async def observe(exchange: Exchange, state: UpstreamState) -> web.StreamResponse:
    """Answer a request that only observes, for a child that is away."""
    answer = exchange.answer
    exchange.outcome = "by_gate"
    if exchange.path.endswith("models"):
        return await answer.whole(200, None, JSON, unavailable.models(state))
    if exchange.path.endswith("health"):
        status, body = unavailable.health(state)
        return await answer.whole(status, None, JSON, body)
    return await refuse(exchange, state, "by_gate")


async def refuse(
    exchange: Exchange, state: UpstreamState, outcome: str, hint: str | None = None
) -> web.StreamResponse:
    """Answer 503: there is no child for this request now."""
    exchange.outcome = outcome
    head = [("Retry-After", str(unavailable.retry_after_s(state)))]
    message, hint = unavailable.sentence(state), hint or state.hint
    return await exchange.answer.fail(503, unavailable.error_code(state), message, hint, head)


async def refuse_full(exchange: Exchange, state: UpstreamState) -> web.StreamResponse:
    """Answer 503: as many requests are held as ``max_held`` allows."""
    return await refuse(exchange, state, "full", "too many requests wait already")


async def give_up(exchange: Exchange, state: UpstreamState, why: AfterLoss) -> web.StreamResponse | None:
    """Answer a request that lost its child; return None if the request is to be sent again."""
    answer, sent = exchange.answer, exchange.upstream_request
    if why is not AfterLoss.REPLAY and sent is not None and sent.withheld:
        exchange.outcome = "cut"
        await answer.write(sent.withheld)  # the child's own words
        return await answer.end()
    match why:
        case AfterLoss.REPLAY:
            return None
        case AfterLoss.GIVE_UP_LATE:
            return await refuse(exchange, state, "held_too_long")
        case AfterLoss.GIVE_UP_POISON:
            exchange.outcome = "poison"
            if exchange.fault is not None:
                return await exchange.fault.pass_on(answer)
            message = "cannot answer: the model server crashed twice while this was its only request"
            return await answer.fail(500, "crashed", message, "it is not sent again")
        case AfterLoss.GIVE_UP_ONCE:
            exchange.outcome = "once"
            message = "cannot answer: the model server went away while it worked on this request"
            return await answer.fail(502, "not_repeated", message, "it is not sent again: it may act twice")
        case AfterLoss.GIVE_UP_BROKEN:
            exchange.outcome = "broken"
            return await answer.fail(502, "broken", "cannot answer: the model server closes the connection")
        case AfterLoss.GIVE_UP_CUT:
            exchange.outcome = "cut"
            if answer.response is not None and answer.response.content_type == "text/event-stream":
                message = "the model server went away in the middle of this answer"
                return await answer.fail(500, "server_restarted", message)
            return answer.cut()
