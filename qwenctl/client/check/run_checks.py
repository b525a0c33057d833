"""Run checks against an endpoint, one after the other, and say what each one found. Starts no server."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from qwenctl.client.openai_api import Api
from qwenctl.errors import ClientError

ItemVerdict = Literal["pass", "fail", "not judged"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the plan promises; None and empty where nobody knows (a server that is not ours).

    ``random``: the weights are noise, so the model's abilities say nothing.
    """

    model: str | None = None
    context_tokens: int | None = None
    sampling: tuple[tuple[str, float], ...] = ()
    random: bool = False
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One check: what came out, and the evidence in words."""

    name: str
    verdict: ItemVerdict
    evidence: str
    took_s: float


class CheckFailed(Exception):  # noqa: N818 - an outcome of a check, not an error of ours
    """The server does not do it. The message is the evidence."""


class NotJudged(Exception):  # noqa: N818 - likewise
    """This server gives no way to tell. The message says why."""


CheckFunction = Callable[[Api, Expected], str]


def run(api: Api, expected: Expected, checks: Mapping[str, CheckFunction]) -> Iterator[Item]:
    """Yield each check's item as it is done. A fault of the endpoint fails the check it happened in."""
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
    except NotJudged as reason:
        return "not judged", str(reason)


def need(condition: object, evidence: str) -> None:
    """Check a condition.

    Raises:
        Failed: it does not hold.
    """
    if not condition:
        raise CheckFailed(evidence)
