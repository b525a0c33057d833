"""Format a benchmark's result for a person."""

from collections.abc import Mapping, Sequence

from qwenctl.client.bench.measure import METRICS, Measured
from qwenctl.client.bench.resource_usage import ResourceUsage
from qwenctl.client.bench.sample_statistics import Ratio
from qwenctl.plan.speed import Speed

GIB = 2**30


def view(
    measured: Sequence[Measured],
    usage: ResourceUsage,
    speed: Speed | None,
    compared: Mapping[str, Mapping[str, Ratio]],
) -> str:
    """Return the table of speeds, and below it memory, energy, and the profile's claim."""
    lines = [f"{'':34} {'mean':>9} {'median':>9} {'p5':>9} {'p95':>9}"]
    for one in measured:
        lines.append(f"{one.name}: {one.prompt_tokens} tokens in, {one.generated_tokens} out")
        for metric, spread in one.spreads().items():
            numbers = " ".join(
                _number(value) for value in (spread.mean, spread.median, spread.p5, spread.p95)
            )
            lines.append(f"  {METRICS[metric]:32} {numbers}{_against(compared, one.name, metric)}")
        if one.together is not None:
            lines.append(f"  {'all requests together, tokens/s':32} {_number(one.together)}")
    return "\n".join([*lines, *_usage(usage), *_speed(measured, speed)])


def _number(value: float) -> str:
    return f"{value:9.3f}" if value < 10 else f"{value:9.1f}"


def _against(compared: Mapping[str, Mapping[str, Ratio]], name: str, metric: str) -> str:
    ratio = compared.get(name, {}).get(metric)
    if ratio is None:
        return ""
    noise = "" if ratio.beyond_noise else ", noise"
    return f"  x {ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f}{noise})"


def _usage(usage: ResourceUsage) -> list[str]:
    lines = []
    if usage.process_bytes is not None:
        lines.append(f"memory of the server  {usage.process_bytes / GIB:.2f} GiB")
    if usage.gpu_bytes is not None:
        lines.append(f"memory on GPUs        {usage.gpu_bytes / GIB:.2f} GiB")
    if usage.gpu_joules is not None:
        lines.append(f"energy of the GPUs    {usage.gpu_joules:.0f} J")
    return lines


def _speed(measured: Sequence[Measured], speed: Speed | None) -> list[str]:
    if speed is None or (speed.low is None and speed.bound is None):
        return []
    values = [value for one in measured for value in one.values["generation_server"]]
    lines = [f"measured here         {sum(values) / len(values):.1f} tokens/s"] if values else []
    if speed.low is not None:
        claim = f"{speed.low:g} to {speed.high:g}" if speed.high is not None else f"{speed.low:g} or more"
        mark = "  more than the bandwidth allows: doubtful" if speed.doubtful else ""
        lines.append(f"claimed               {claim} tokens/s ({speed.source}){mark}")
    if speed.bound is not None:
        lines.append(
            f"at most               {speed.bound:g} tokens/s ({speed.bandwidth_gb_s:g} GB/s of bandwidth)"
        )
    return lines
