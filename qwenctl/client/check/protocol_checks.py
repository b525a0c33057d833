"""The checks that any weights pass, random ones too: does the machinery do its part of the job?"""

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
"""Two, three and four bytes a character, and one drawn from three characters."""
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
"""A slot that was not freed makes the next request wait for the rest of the first one."""
AT_ONCE = 2


def ready(api: Api, expected: Expected) -> str:
    """Check that it says it is ready."""
    del expected
    try:
        api.get("/health")
    except RefusedError as error:
        if error.status != 404:
            raise
    models = api.models()
    need(models, "it lists no model")
    return f"serves {', '.join(models)}"


def as_planned(api: Api, expected: Expected) -> str:
    """Check that model and context are those of the plan."""
    if expected.model is None:
        raise NotJudged("no plan of ours to compare with")
    models = api.models()
    need(expected.model in models, f"plan says {expected.model}, it serves {', '.join(models)}")
    context = _context(api)
    need(
        context is None or expected.context_tokens is None or context >= expected.context_tokens,
        f"plan says {expected.context_tokens} tokens of context, it has {context}",
    )
    return f"{expected.model}, {context or 'unknown'} tokens of context"


def whole(api: Api, expected: Expected) -> str:
    """Check an answer that does not stream."""
    del expected
    answer = api.ask({"messages": user("Say hello."), "max_tokens": 16})
    _well_formed(answer)
    return f"{answer.generated_tokens} tokens, {answer.finish}"


def streaming(api: Api, expected: Expected) -> str:
    """Check a streamed answer: events, an end, and the count of tokens."""
    del expected
    answer = api.answer({"messages": user("Say hello."), "max_tokens": 16})
    _well_formed(answer)
    return f"{answer.generated_tokens} tokens in {answer.events} events, {answer.finish}"


def tools(api: Api, expected: Expected) -> str:
    """Check that a request with tools is answered, and that a call, if there is one, can be made.

    A server refuses with 500 to pass on what its parser cannot read; weights may produce that once.
    """
    del expected
    body = {"messages": user("What is the weather in Paris?"), "tools": [TOOL], "max_tokens": 96, **QUIET}
    for left in reversed(range(TOOL_TRIES)):
        try:
            answer = api.ask(body)
        except RefusedError as error:
            if error.status != 500 or not left:
                raise
            continue
        _well_formed(answer)
        for call in answer.tool_calls:
            need(call.name == "weather", f"it calls {call.name!r}, a tool that was not offered")
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
        said = table(json.loads(answer.text))
    except ValueError as error:
        raise CheckFailed(f"no JSON: {answer.text[:80]!r}") from error
    need(set(said) == set(properties), f"other keys than asked for: {answer.text[:80]!r}")
    right = said["city"] in ("Paris", "Rome", "Oslo") and isinstance(said["sunny"], bool)
    need(right and 0 <= (number(said["days"]) or 0) <= 99, f"other values than allowed: {answer.text[:80]!r}")
    return json.dumps(said)


def long_prompt(api: Api, expected: Expected) -> str:
    """Check a prompt of half the context, and tell how fast it is read."""
    context = _context(api) or expected.context_tokens
    if context is None:
        raise NotJudged("it does not say how long its context is")
    wanted = context // 2
    asked = user(long_text(items_for(api, wanted)))
    answer = api.answer({"messages": asked, "max_tokens": 1, "cache_prompt": False})
    got = answer.prompt_tokens or 0
    need(got >= wanted * 0.9, f"sent about {wanted} tokens, it counted {got}: is the prompt cut?")
    measured = answer.timings.prompt_tokens_per_s if answer.timings else None
    if measured is None and answer.last_s:
        measured = got / answer.last_s
    return f"{got} tokens read" + (f", {measured:.0f} tokens/s" if measured else "")


def cancel(api: Api, expected: Expected) -> str:
    """Check that leaving an answer makes its slot free: the next answer need not wait for the rest."""
    del expected
    context = _context(api)
    if context is None:
        raise NotJudged("only a llama-server can be made to go on writing")
    asked: Table = {"messages": user("Count."), "max_tokens": context // 2, "ignore_eos": True}
    with api.stream(asked) as stream:
        for _piece in stream:
            if stream.answer.events > CANCEL_AFTER_TOKENS:
                break
        first, last, seen = stream.answer.first_s or 0.0, stream.answer.last_s or 0.0, stream.answer.events
    rest_s = (last - first) / max(seen - 1, 1) * (context // 2 - seen)
    after = api.answer({"messages": user("Say hello."), "max_tokens": 1}).last_s or 0.0
    need(
        after < max(rest_s * CANCEL_SHARE, 0.5),
        f"the next answer took {after:.1f} s; the rest, {rest_s:.1f} s",
    )
    return f"the next answer took {after:.2f} s; the rest would have taken {rest_s:.1f} s"


def at_once(api: Api, expected: Expected) -> str:
    """Check that requests sent together are all answered, each with its own answer."""
    del expected
    words = [f"answer-{n}" for n in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda word: api.answer(_constrained({"it": {"const": word}})), words))
    for word, answer in zip(words, answers, strict=True):
        need(word in answer.text, f"asked for {word}, got {answer.text[:80]!r}")
    return f"{AT_ONCE} answers, each its own"


def characters(api: Api, expected: Expected) -> str:
    """Check that characters of several bytes arrive whole, though tokens and packets cut them."""
    del expected
    answer = api.answer(_constrained({"it": {"const": TRICKY}}))
    try:
        said = table(json.loads(answer.text)).get("it")
    except ValueError as error:
        raise CheckFailed(f"no JSON: {answer.text[:80]!r}") from error
    need(said == TRICKY, f"sent {TRICKY!r}, got {said!r}")
    return f"{TRICKY} whole, in {answer.events} events"


def sampling(api: Api, expected: Expected) -> str:
    """Check that the server draws as planned when a request says nothing about it."""
    if not expected.sampling:
        raise NotJudged("no plan of ours to compare with")
    props = api.props()
    if props is None:
        raise NotJudged("it does not tell how it draws")
    drawn = table(table(props["default_generation_settings"]).get("params"))
    for name, wanted in expected.sampling:
        got = number(drawn.get(name))
        need(
            got is not None and math.isclose(got, wanted, rel_tol=1e-5, abs_tol=1e-6),
            f"plan says {name} {wanted:g}, it has {got}",
        )
    return ", ".join(f"{name} {wanted:g}" for name, wanted in expected.sampling)


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
    wanted = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": wanted}}
    asked = f"Answer with JSON that fits this schema: {json.dumps(wanted, ensure_ascii=False)}"
    return {"messages": user(asked), "max_tokens": 256, "response_format": form, **QUIET}


def _well_formed(answer: Answer) -> None:
    need(answer.role in (None, "assistant"), f"the answer's role is {answer.role!r}")
    need(answer.finish in ("stop", "length", "tool_calls"), f"finish_reason is {answer.finish!r}")
    need(answer.generated_tokens, "it does not count the tokens it wrote")


def _context(api: Api) -> int | None:
    """Return the context of one slot, in tokens."""
    props = api.props()
    found = number(table(table(props).get("default_generation_settings")).get("n_ctx")) if props else None
    return int(found) if found else None


def _is_table(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
