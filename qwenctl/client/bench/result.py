"""Turn a benchmark's result into JSON, and read it back. Pure: no I/O."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from qwenctl.client.answer import number, rows, table, text
from qwenctl.client.bench.measure import Measured
from qwenctl.client.bench.resource_usage import ResourceUsage
from qwenctl.client.bench.sample_statistics import Ratio
from qwenctl.errors import SettingsError
from qwenctl.plan.speed import Speed

Values = dict[str, dict[str, list[float]]]


def to_json(
    measured: Sequence[Measured],
    usage: ResourceUsage,
    speed: Speed | None,
    compared: Mapping[str, Mapping[str, Ratio]],
) -> dict[str, object]:
    """Return what ``--json`` prints and ``--against`` reads."""
    return {
        "workloads": [
            {
                "name": one.name,
                "prompt_tokens": one.prompt_tokens,
                "generated_tokens": one.generated_tokens,
                "values": {metric: list(values) for metric, values in one.values.items()},
                "spreads": {metric: asdict(spread) for metric, spread in one.spreads().items()},
                "together_tokens_per_s": one.together,
            }
            for one in measured
        ],
        "taken": asdict(usage),
        "speed": None if speed is None else {**asdict(speed), "doubtful": speed.doubtful},
        "against": {
            name: {key: asdict(value) for key, value in row.items()} for name, row in compared.items()
        },
    }


def read_values(content: str, path: str) -> Values:
    """Return the values of an earlier result: the whole envelope, or its ``data``.

    Raises:
        SettingsError: the content is not such a result.
    """
    try:
        body = table(json.loads(content))
    except ValueError as error:
        raise SettingsError(f"cannot compare with {path}: it is no JSON") from error
    workloads: Values = {}
    for row in rows((table(body.get("data")) or body).get("workloads")):
        values = table(table(row).get("values"))
        workloads[text(table(row).get("name"))] = {
            metric: [value for value in map(number, rows(values[metric])) if value is not None]
            for metric in values
        }
    if not workloads:
        raise SettingsError(
            f"cannot compare with {path}: it has no workloads",
            hint="qwenctl bench --json > FILE writes such a result",
        )
    return workloads
