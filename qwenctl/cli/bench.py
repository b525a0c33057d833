"""``qwenctl bench``: measure the server's speed, compare it with an earlier result, or tune options."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qwenctl.cli.arguments import model_argument
from qwenctl.cli.bench_view import view
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.target import Target, endpoint, target
from qwenctl.deploy import pipeline
from qwenctl.deploy.exact_plan import decide
from qwenctl.errors import NoFitError, SettingsError

if TYPE_CHECKING:
    from qwenctl.client.bench.result import Values
    from qwenctl.plan.speed import Speed

FILE = click.Path(path_type=Path)


@click.command("bench", epilog="Example: qwenctl bench --runs 5 --plot speed.svg")
@common
@model_argument
@endpoint
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Also measure a prompt of N tokens. May be repeated.",
)
@click.option(
    "--gen-tokens", type=click.IntRange(2), default=128, metavar="N", help="Tokens to generate (128)."
)
@click.option(
    "--concurrency", type=click.IntRange(1, 64), default=1, metavar="N", help="Requests at the same time (1)."
)
@click.option(
    "--runs", type=click.IntRange(1), default=5, metavar="N", help="Measure each prompt N times (5)."
)
@click.option("--plot", type=FILE, metavar="FILE", help="Draw the result into a .svg or .png file.")
@click.option(
    "--against",
    type=FILE,
    metavar="FILE",
    help="Compare with an earlier result, saved by bench --json > FILE.",
)
@click.option("--tune", is_flag=True, help="Find out which llama-server options make this model faster here.")
@click.option("--inexact", is_flag=True, help="With --tune: also try options that change answers a little.")
@click.option("--keep", is_flag=True, help="With --tune: use the fastest options until up --reset.")
@click.option(
    "--budget",
    type=click.IntRange(1),
    default=900,
    metavar="S",
    help="With --tune: stop trying after S seconds (900).",
)
@click.pass_obj
def command(
    session: Session,
    /,
    model: str | None,
    url: str | None,
    api_key_file: Path | None,
    plot: Path | None,
    against: Path | None,
    prompt_tokens: tuple[int, ...],
    **numbers: int,
) -> Result:
    """Measure prompt and generation speed, as the server reports it and as this client sees it.

    MODEL is what the daemon must be serving. Default: whatever it serves.
    """
    from qwenctl.client.bench.measure import compare, measure, recipe, sized
    from qwenctl.client.bench.resource_usage import ResourceMonitor
    from qwenctl.client.bench.result import to_json

    if plot is not None and find_spec("matplotlib") is None:
        raise SettingsError(
            f"cannot draw {plot}: matplotlib is not installed", hint="pip install 'qwenctl[plot]'"
        )
    before = _earlier(against)
    where = target(session, url, api_key_file, model)
    if numbers["tune"]:
        from qwenctl.cli.bench_tune import TuneRequest, tune_here

        budget, runs, tokens = numbers["budget"], numbers["runs"], numbers["gen_tokens"]
        wish = TuneRequest(budget, runs, tokens, inexact=bool(numbers["inexact"]), keep=bool(numbers["keep"]))
        return tune_here(session, where, wish)
    speed = _speed(where)
    with where.api() as api, ResourceMonitor(_pid(where)) as monitor:
        gen_tokens = numbers["gen_tokens"]
        workloads = (*recipe(gen_tokens), *(sized(api, length, gen_tokens) for length in prompt_tokens))
        measured = measure(
            api,
            workloads,
            numbers["runs"],
            numbers["concurrency"],
            lambda name, run: session.say(f"{name}, run {run} of {numbers['runs']}"),
        )
    compared = compare(before, measured)
    if plot is not None:
        from qwenctl.client.bench.plot import draw

        draw(plot, f"{where.url}, {numbers['runs']} runs", measured, speed)
        session.say(f"drawn in {plot}")
    data = {"url": where.url, **to_json(measured, monitor.usage, speed, compared)}
    return Result(data, view(measured, monitor.usage, speed, compared))


def _earlier(path: Path | None) -> "Values":
    from qwenctl.client.bench.result import read_values

    if path is None:
        return {}
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot compare with {path}: {error}") from error
    return read_values(content, str(path))


def _pid(where: Target) -> int | None:
    pid = where.status.get("pid") if where.status else None
    return pid if isinstance(pid, int) else None


def _speed(where: Target) -> "Speed | None":
    """Return what speed the profile claims here, and the bandwidth's limit; None for another server."""
    if where.resolved is None:
        return None
    try:
        return decide(where.resolved, pipeline.survey(where.resolved))[1].speed
    except NoFitError:
        return None  # the settings changed after this server was started
