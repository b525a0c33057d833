"""Checks of the server's protocol. They do not depend on the model: random weights pass them, too."""

import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from qwenctl.client.answer import Answer, Table, number, table
from qwenctl.client.bench.prompts import items_for, long_text, user
from qwenctl.client.check.run_checks import CheckFailed, CheckFunction, Expected, NotJudged, need
from qwenctl.client.openai_api import Api
from qwenctl.errors import RefusedError

QUIET: Table = {"chat_template_kwargs": {"enable_thinking": False}}
TRICKY = "grüße \U0001f999 東京 \U0001f469\u200d\U0001f4bb"
"""Characters of two, three and four bytes, and one symbol made of three characters."""
TOOL: Table = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Return the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TOOL_TRIES = 3
CANCEL_AFTER_TOKENS = 16
CANCEL_SHARE = 0.5
"""If the slot is not freed, the next request waits for the rest of the first one."""
AT_ONCE = 2


def ready(api: Api, expected: Expected) -> str:
    """Check that the server is ready."""
    del expected
    try:
        api.get("/health")
    except RefusedError as error:
        if error.status != 404:
            raise
    models = api.models()
    need(models, "the server lists no model")
    return f"serves {', '.join(models)}"


def as_planned(api: Api, expected: Expected) -> str:
    """Check that the server has the plan's model and context."""
    if expected.model is None:
        raise NotJudged("there is no plan to compare with")
    models = api.models()
    need(expected.model in models, f"the plan says {expected.model}, the server has {', '.join(models)}")
    context = _context(api)
    need(
        context is None or expected.context_tokens is None or context >= expected.context_tokens,
        f"the plan says {expected.context_tokens} tokens of context, the server has {context}",
    )
    return f"{expected.model}, {context or 'unknown'} tokens of context"


def whole(api: Api, expected: Expected) -> str:
    """Check an answer that does not stream."""
    del expected
    answer = api.ask({"messages": user("Say hello."), "max_tokens": 16})
    _well_formed(answer)
    return f"{answer.generated_tokens} tokens, {answer.finish}"


def streaming(api: Api, expected: Expected) -> str:
    """Check a streamed answer: its events, its end, and the number of tokens."""
    del expected
    answer = api.answer({"messages": user("Say hello."), "max_tokens": 16})
    _well_formed(answer)
    return f"{answer.generated_tokens} tokens in {answer.events} events, {answer.finish}"


def tools(api: Api, expected: Expected) -> str:
    """Check that a request with tools gets an answer, and that a tool call in it is well-formed.

    llama-server answers 500 when the model writes a call that it cannot parse. Random weights may do that.
    """
    del expected
    body = {"messages": user("What is the weather in Paris?"), "tools": [TOOL], "max_tokens": 96, **QUIET}
    for tries_left in reversed(range(TOOL_TRIES)):
        try:
            answer = api.ask(body)
        except RefusedError as error:
            if error.status != 500 or not tries_left:
                raise
            continue
        _well_formed(answer)
        for call in answer.tool_calls:
            need(call.name == "weather", f"the answer calls {call.name!r}, a tool that was not offered")
            need(_is_table(call.arguments), f"the arguments are no JSON object: {call.arguments[:80]!r}")
        return f"{len(answer.tool_calls)} calls, {answer.finish}"
    raise CheckFailed("no answer")


def schema(api: Api, expected: Expected) -> str:
    """Check that an answer keeps to a JSON schema when thinking is off."""
    del expected
    properties = {
        "city": {"enum": ["Paris", "Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 0, "maximum": 99},
        "sunny": {"type": "boolean"},
    }
    answer = api.ask(_constrained(properties))
    try:
        value = table(json.loads(answer.text))
    except ValueError as error:
        raise CheckFailed(f"the answer is no JSON: {answer.text[:80]!r}") from error
    need(set(value) == set(properties), f"the keys are not those of the schema: {answer.text[:80]!r}")
    right = value["city"] in ("Paris", "Rome", "Oslo") and isinstance(value["sunny"], bool)
    need(
        right and 0 <= (number(value["days"]) or 0) <= 99,
        f"the values are not those of the schema: {answer.text[:80]!r}",
    )
    return json.dumps(value)


def long_prompt(api: Api, expected: Expected) -> str:
    """Check a prompt of half the context, and measure how fast the server reads it."""
    context = _context(api) or expected.context_tokens
    if context is None:
        raise NotJudged("the server does not say how long its context is")
    wanted_tokens = context // 2
    request = user(long_text(items_for(api, wanted_tokens)))
    answer = api.answer({"messages": request, "max_tokens": 1, "cache_prompt": False})
    got = answer.prompt_tokens or 0
    need(
        got >= wanted_tokens * 0.9,
        f"sent about {wanted_tokens} tokens, the server counted {got}: is the prompt cut?",
    )
    measured = answer.timings.prompt_tokens_per_s if answer.timings else None
    if measured is None and answer.last_s:
        measured = got / answer.last_s
    return f"{got} tokens read" + (f", {measured:.0f} tokens/s" if measured else "")


def cancel(api: Api, expected: Expected) -> str:
    """Check that closing a stream frees its slot: the next answer does not wait for the rest."""
    del expected
    context = _context(api)
    if context is None:
        raise NotJudged("this needs a llama-server, which can be made to keep on writing")
    request: Table = {"messages": user("Count."), "max_tokens": context // 2, "ignore_eos": True}
    with api.stream(request) as stream:
        for _piece in stream:
            if stream.answer.events > CANCEL_AFTER_TOKENS:
                break
        first, last, events = stream.answer.first_s or 0.0, stream.answer.last_s or 0.0, stream.answer.events
    rest_s = (last - first) / max(events - 1, 1) * (context // 2 - events)
    after = api.answer({"messages": user("Say hello."), "max_tokens": 1}).last_s or 0.0
    need(
        after < max(rest_s * CANCEL_SHARE, 0.5),
        f"the next answer took {after:.1f} s; the rest of the first would take {rest_s:.1f} s",
    )
    return f"the next answer took {after:.2f} s; the rest of the first would have taken {rest_s:.1f} s"


def at_once(api: Api, expected: Expected) -> str:
    """Check that requests sent at the same time each get their own answer."""
    del expected
    words = [f"answer-{n}" for n in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda word: api.answer(_constrained({"it": {"const": word}})), words))
    for word, answer in zip(words, answers, strict=True):
        need(word in answer.text, f"asked for {word}, got {answer.text[:80]!r}")
    return f"{AT_ONCE} requests, each with its own answer"


def characters(api: Api, expected: Expected) -> str:
    """Check that characters of several bytes arrive whole, although tokens and packets may cut them."""
    del expected
    answer = api.answer(_constrained({"it": {"const": TRICKY}}))
    try:
        value = table(json.loads(answer.text)).get("it")
    except ValueError as error:
        raise CheckFailed(f"the answer is no JSON: {answer.text[:80]!r}") from error
    need(value == TRICKY, f"sent {TRICKY!r}, got {value!r}")
    return f"{TRICKY} whole, in {answer.events} events"


def sampling(api: Api, expected: Expected) -> str:
    """Check that the server uses the planned sampling for a request that sets none."""
    if not expected.sampling:
        raise NotJudged("there is no plan to compare with")
    props = api.props()
    if props is None:
        raise NotJudged("the server does not show its sampling")
    params = table(table(props["default_generation_settings"]).get("params"))
    for name, planned in expected.sampling:
        actual = number(params.get(name))
        need(
            actual is not None and math.isclose(actual, planned, rel_tol=1e-5, abs_tol=1e-6),
            f"the plan says {name} {planned:g}, the server has {actual}",
        )
    return ", ".join(f"{name} {planned:g}" for name, planned in expected.sampling)


PROTOCOL_CHECKS: Mapping[str, CheckFunction] = {
    "ready": ready,
    "model and context as planned": as_planned,
    "an answer": whole,
    "a streamed answer": streaming,
    "a request with tools": tools,
    "JSON by a schema": schema,
    "half the context": long_prompt,
    "cancel frees the slot": cancel,
    "two at once": at_once,
    "characters of several bytes": characters,
    "sampling as planned": sampling,
}


def _constrained(properties: Mapping[str, object]) -> Table:
    schema_ = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema_}}
    request = f"Answer with JSON that fits this schema: {json.dumps(schema_, ensure_ascii=False)}"
    return {"messages": user(request), "max_tokens": 256, "response_format": form, **QUIET}


def _well_formed(answer: Answer) -> None:
    need(answer.role in (None, "assistant"), f"the answer's role is {answer.role!r}")
    need(answer.finish in ("stop", "length", "tool_calls"), f"finish_reason is {answer.finish!r}")
    need(answer.generated_tokens, "the server does not count the generated tokens")


def _context(api: Api) -> int | None:
    """Return the context of one slot, in tokens."""
    props = api.props()
    tokens = number(table(table(props).get("default_generation_settings")).get("n_ctx")) if props else None
    return int(tokens) if tokens else None


def _is_table(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
