"""Checks of what the model can do. Code runs in the sandbox; other answers have one right value."""

import json
from collections.abc import Mapping
from functools import partial

from qwenctl.client.answer import table, text
from qwenctl.client.bench.prompts import user
from qwenctl.client.check.protocol_checks import QUIET, TOOL
from qwenctl.client.check.questions import ASYNC, BUG, CHICKENS, CHICKENS_ANSWER, LRU, CodeQuestion
from qwenctl.client.check.run_checks import (
    CheckFailed,
    CheckFunction,
    Expected,
    NotJudged,
    WrongAnswer,
    expect,
    need,
)
from qwenctl.client.markdown import python_code
from qwenctl.client.openai_api import Api
from qwenctl.client.sandbox import sandbox
from qwenctl.client.sandbox.sandbox_outcome import SandboxLimits
from qwenctl.errors import SandboxError

MAX_TOKENS = 16384
"""Room for the thinking of a model that thinks. A model that goes on without an end gets half its context."""
SHOWN = 200


def reasoning(api: Api, expected: Expected) -> str:
    """Check that the thinking is separate from the answer."""
    _not_random(expected)
    messages = user("What is 17 * 23? Think first, then answer with the number.")
    answer = api.answer({"messages": messages, "max_tokens": most_tokens(expected)})
    need("<think>" not in answer.text and "</think>" not in answer.text, "the answer contains the thinking")
    expect("391" in answer.text, f"17 * 23 is 391, the answer is {answer.text[-SHOWN:]!r}")
    if not answer.reasoning:
        raise NotJudged("the model answers without thinking")
    return f"{len(answer.reasoning)} characters of thinking, separate from the answer"


def tool_round_trip(api: Api, expected: Expected) -> str:
    """Check that the model calls a tool, and uses the tool's result."""
    _not_random(expected)
    messages = user("What is the weather in Paris right now? Use the tool.")
    body = {"tools": [TOOL], "max_tokens": most_tokens(expected), **QUIET}
    first = api.answer({"messages": messages, **body})
    expect(first.tool_calls, f"the model calls no tool, it answers {first.text[-SHOWN:]!r}")
    call = first.tool_calls[0]
    try:
        city = text(table(json.loads(call.arguments)).get("city"))
    except ValueError as error:
        raise CheckFailed(f"the arguments are no JSON: {call.arguments[:SHOWN]!r}") from error
    expect(
        call.name == "weather" and "paris" in city.lower(), f"the model calls {call.name}({call.arguments})"
    )
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 17, "sky": "hail"}'}
    second = api.answer({"messages": [*messages, first.message, result], **body})
    expect(
        "17" in second.text and "hail" in second.text.lower(),
        f"the answer does not use the tool's result: {second.text[-SHOWN:]!r}",
    )
    return f"weather({city}) -> {second.text.strip()[:SHOWN]}"


def chickens(api: Api, expected: Expected) -> str:
    """Check the riddle of the chickens and rabbits: 35 heads, 94 feet."""
    _not_random(expected)
    answer = api.answer({"messages": user(CHICKENS), "max_tokens": most_tokens(expected)})
    plain = answer.text.replace("*", "").replace("`", "")
    expect(CHICKENS_ANSWER in plain, f"right is {CHICKENS_ANSWER}, the answer is {answer.text[-SHOWN:]!r}")
    return CHICKENS_ANSWER


def code(question: CodeQuestion, api: Api, expected: Expected) -> str:
    """Check that the model's code passes the question's tests."""
    _not_random(expected)
    answer = api.answer({"messages": user(question.prompt), "max_tokens": most_tokens(expected)})
    source = python_code(answer.text)
    if source is None:
        raise WrongAnswer(f"the answer has no code: {answer.text[-SHOWN:]!r}")
    files = {"solution.py": source, "tests.py": question.tests}
    try:
        isolated = sandbox.isolation(unsafe=expected.unsafe)
        outcome = sandbox.run((*sandbox.python(), "tests.py"), files, SandboxLimits(), isolated)
    except SandboxError as error:
        raise NotJudged(error.message) from error
    expect(outcome.passed, f"{outcome.ended} {outcome.code}: {outcome.output.strip()[-SHOWN:]}")
    return f"{len(source.splitlines())} lines of code pass the tests"


MODEL_CHECKS: Mapping[str, CheckFunction] = {
    "thinking apart from the answer": reasoning,
    "a tool, there and back": tool_round_trip,
    "an LRU cache": partial(code, LRU),
    "a bug to find": partial(code, BUG),
    "a function made asynchronous": partial(code, ASYNC),
    "chickens and rabbits": chickens,
}


def most_tokens(expected: Expected) -> int:
    """Return how many tokens an answer may have: half the context at most, the rest is for the question."""
    if expected.context_tokens is None:
        return MAX_TOKENS
    return max(1, min(MAX_TOKENS, expected.context_tokens // 2))


def _not_random(expected: Expected) -> None:
    if expected.random:
        raise NotJudged("the weights are random")
