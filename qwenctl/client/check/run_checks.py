"""Run checks against an endpoint, one after the other, and return their results. Starts no server."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from qwenctl.client.openai_api import Api
from qwenctl.errors import ClientError

ItemVerdict = Literal["pass", "fail", "wrong", "not judged"]
"""``fail``: the server is at fault. ``wrong``: the server did its part, the model's answer is wrong."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the plan promises. A value is None or empty where it is not known: a server that is not ours.

    ``random``: the weights are random, so what the model can do is not judged.
    """

    model: str | None = None
    context_tokens: int | None = None
    sampling: tuple[tuple[str, float], ...] = ()
    random: bool = False
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """The result of one check, with the evidence in words."""

    name: str
    verdict: ItemVerdict
    evidence: str
    took_s: float


class CheckFailed(Exception):  # noqa: N818 - an outcome of a check, not an error of ours
    """The check failed. The message is the evidence."""


class WrongAnswer(Exception):  # noqa: N818 - as CheckFailed
    """The model's answer is wrong, and the server did its part. The message is the evidence."""


class NotJudged(Exception):  # noqa: N818 - as CheckFailed
    """The check cannot be judged on this server. The message says why."""


CheckFunction = Callable[[Api, Expected], str]


def run(api: Api, expected: Expected, checks: Mapping[str, CheckFunction]) -> Iterator[Item]:
    """Yield the result of each check when it ends. An error of the endpoint fails the check."""
    for name, check in checks.items():
        started = time.monotonic()
        try:
            verdict, evidence = _judged(check, api, expected)
        except ClientError as error:
            verdict, evidence = "fail", error.message
        yield Item(name, verdict, evidence, time.monotonic() - started)


def _judged(check: CheckFunction, api: Api, expected: Expected) -> tuple[ItemVerdict, str]:
    try:
        return "pass", check(api, expected)
    except CheckFailed as failed:
        return "fail", str(failed)
    except WrongAnswer as wrong:
        return "wrong", str(wrong)
    except NotJudged as reason:
        return "not judged", str(reason)


def need(condition: object, evidence: str) -> None:
    """Fail the check unless the condition holds.

    Raises:
        CheckFailed: the condition does not hold.
    """
    if not condition:
        raise CheckFailed(evidence)


def expect(condition: object, evidence: str) -> None:
    """Judge the model's answer as wrong unless the condition holds.

    Raises:
        WrongAnswer: the condition does not hold.
    """
    if not condition:
        raise WrongAnswer(evidence)
