"""Show a benchmark to a person."""

from collections.abc import Mapping, Sequence

from qwenctl.client.bench.measure import METRICS, Measured
from qwenctl.client.bench.resource_usage import Taken
from qwenctl.client.bench.sample_statistics import Ratio
from qwenctl.plan.speed import Speed

GIB = 2**30


def view(
    measured: Sequence[Measured],
    taken: Taken,
    speed: Speed | None,
    compared: Mapping[str, Mapping[str, Ratio]],
) -> str:
    """Return the table and what stands beside it."""
    lines = [f"{'':34} {'mean':>9} {'median':>9} {'p5':>9} {'p95':>9}"]
    for one in measured:
        lines.append(f"{one.name}: {one.prompt_tokens} tokens in, {one.generated_tokens} out")
        for metric, found in one.spreads().items():
            numbers = " ".join(_number(value) for value in (found.mean, found.median, found.p5, found.p95))
            lines.append(f"  {METRICS[metric]:32} {numbers}{_against(compared, one.name, metric)}")
        if one.together is not None:
            lines.append(f"  {'all requests together, tokens/s':32} {_number(one.together)}")
    return "\n".join([*lines, *_taken(taken), *_speed(measured, speed)])


def _number(value: float) -> str:
    return f"{value:9.3f}" if value < 10 else f"{value:9.1f}"


def _against(compared: Mapping[str, Mapping[str, Ratio]], name: str, metric: str) -> str:
    found = compared.get(name, {}).get(metric)
    if found is None:
        return ""
    noise = "" if found.beyond_noise else ", noise"
    return f"  x {found.ratio:.2f} ({found.low:.2f} to {found.high:.2f}{noise})"


def _taken(taken: Taken) -> list[str]:
    lines = []
    if taken.process_bytes is not None:
        lines.append(f"memory of the server  {taken.process_bytes / GIB:.2f} GiB")
    if taken.gpu_bytes is not None:
        lines.append(f"memory on GPUs        {taken.gpu_bytes / GIB:.2f} GiB")
    if taken.gpu_joules is not None:
        lines.append(f"energy of the GPUs    {taken.gpu_joules:.0f} J")
    return lines


def _speed(measured: Sequence[Measured], speed: Speed | None) -> list[str]:
    if speed is None or (speed.low is None and speed.bound is None):
        return []
    values = [value for one in measured for value in one.values["generation_server"]]
    lines = [f"measured here         {sum(values) / len(values):.1f} tokens/s"] if values else []
    if speed.low is not None:
        claim = f"{speed.low:g} to {speed.high:g}" if speed.high is not None else f"{speed.low:g} or more"
        mark = "  above the bound: doubtful" if speed.doubtful else ""
        lines.append(f"claimed               {claim} tokens/s ({speed.source}){mark}")
    if speed.bound is not None:
        lines.append(
            f"at most               {speed.bound:g} tokens/s ({speed.bandwidth_gb_s:g} GB/s of bandwidth)"
        )
    return lines
