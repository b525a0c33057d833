"""Measure an endpoint: time to the first token, prompt speed, generation speed. Starts no server.

Each speed is measured twice: by the server's own timings, which leave out the network and the gate, and by
the client's clock, which is what a person notices.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from qwenctl.client.answer import Answer, Table
from qwenctl.client.bench.prompts import items_for, long_text, user
from qwenctl.client.bench.sample_statistics import Ratio, Spread, ratio, spread
from qwenctl.client.check.questions import ASYNC, CHICKENS, LRU
from qwenctl.client.openai_api import Api

METRICS = {
    "first_token_s": "first token, s",
    "prompt_server": "reading, tokens/s, by the server",
    "prompt_client": "reading, tokens/s, by the client",
    "generation_server": "writing, tokens/s, by the server",
    "generation_client": "writing, tokens/s, by the client",
}
"""Every metric, and its name for people."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request that is sent several times."""

    name: str
    messages: tuple[Table, ...]
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of one workload: each metric has one value for every request.

    ``together`` is the speed of all simultaneous requests, in tokens/s. ``text`` is the first request's
    greedy answer, with its thinking in front.
    """

    name: str
    prompt_tokens: int
    generated_tokens: int
    values: Mapping[str, tuple[float, ...]]
    together: float | None
    text: str = ""

    def spreads(self) -> dict[str, Spread]:
        """Return the spread of each metric that has values."""
        return {metric: spread(values) for metric, values in self.values.items() if values}


def recipe(generated_tokens: int) -> tuple[Workload, ...]:
    """Return the recipe's prompts as workloads."""
    prompts = {"cache": LRU.prompt, "async": ASYNC.prompt, "rabbits": CHICKENS}
    return tuple(Workload(name, tuple(user(text)), generated_tokens) for name, text in prompts.items())


def sized(api: Api, prompt_tokens: int, generated_tokens: int) -> Workload:
    """Return a workload whose prompt has about ``prompt_tokens`` tokens on this server.

    Raises:
        ClientError: the server does not count its prompt's tokens.
    """
    text = long_text(items_for(api, prompt_tokens))
    return Workload(f"{prompt_tokens} tokens", tuple(user(text)), generated_tokens)


def measure(
    api: Api,
    workloads: Iterable[Workload],
    runs: int,
    concurrency: int = 1,
    on_run: Callable[[str, int], None] = lambda _name, _run: None,
    *,
    fresh: bool = True,
) -> list[Measured]:
    """Measure each workload ``runs`` times with ``concurrency`` requests at once, after a short warm-up.

    ``fresh``: the server reads the whole prompt each time and does not use its cache.

    Raises:
        ClientError: the endpoint cannot be reached, refuses, or breaks off.
    """
    extras: Table = {"ignore_eos": True, "cache_prompt": not fresh} if api.props() is not None else {}
    return [_measured(api, workload, runs, concurrency, extras, on_run) for workload in workloads]


def _measured(
    api: Api,
    workload: Workload,
    runs: int,
    concurrency: int,
    extras: Table,
    on_run: Callable[[str, int], None],
) -> Measured:
    body: Table = {
        "messages": list(workload.messages),
        "max_tokens": workload.generated_tokens,
        "temperature": 0,
        **extras,
    }
    api.answer({**body, "max_tokens": 2})
    answers: list[Answer] = []
    started = time.monotonic()
    with ThreadPoolExecutor(concurrency) as pool:
        for number in range(runs):
            on_run(workload.name, number + 1)
            answers += pool.map(api.answer, [body] * concurrency)
    duration_s = time.monotonic() - started
    written = sum(answer.generated_tokens or 0 for answer in answers)
    return Measured(
        workload.name,
        answers[0].prompt_tokens or 0,
        answers[0].generated_tokens or 0,
        {metric: _values(answers, metric) for metric in METRICS},
        written / duration_s if duration_s > 0 else None,
        answers[0].reasoning + answers[0].text,
    )


def _values(answers: Sequence[Answer], metric: str) -> tuple[float, ...]:
    values = (_value(answer, metric) for answer in answers)
    return tuple(value for value in values if value is not None)


def _value(answer: Answer, metric: str) -> float | None:
    match metric:
        case "first_token_s":
            return answer.first_s
        case "prompt_server":
            return answer.timings.prompt_tokens_per_s if answer.timings else None
        case "prompt_client":
            return answer.prompt_tokens / answer.first_s if answer.prompt_tokens and answer.first_s else None
        case "generation_server":
            return answer.timings.generated_tokens_per_s if answer.timings else None
        case _:
            return answer.client_tokens_per_s


def compare(
    before: Mapping[str, Mapping[str, Sequence[float]]], now: Sequence[Measured]
) -> dict[str, dict[str, Ratio]]:
    """Return the ratio of ``now`` to ``before`` for each workload and metric that both have."""
    ratios: dict[str, dict[str, Ratio]] = {}
    for measured in now:
        for metric, values in measured.values.items():
            compared = ratio(before.get(measured.name, {}).get(metric, ()), values)
            if compared is not None:
                ratios.setdefault(measured.name, {})[metric] = compared
    return ratios
