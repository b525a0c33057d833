"""``qwenctl argv``: the command line that ``qwenctl up`` would start llama-server with."""

import shlex
from pathlib import Path

import click

from qwenctl.cli.arguments import model_argument, request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.deploy import pipeline
from qwenctl.deploy.exact_plan import decide
from qwenctl.launch.argv import lines


@click.command("argv", epilog="Example: qwenctl argv --hardware machine.json --shell")
@common
@model_argument
@click.option(
    "--hardware",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Plan for the machine in this file (see qwenctl hardware).",
)
@click.option("--quant", metavar="Q", help="Use this quant of the model. Default: the best one that fits.")
@click.option("--ctx", type=int, metavar="N", help="Context of each slot, in tokens.")
@click.option("--shell", is_flag=True, help="Print one line, quoted for a shell.")
@click.pass_obj
def command(
    session: Session,
    /,
    model: str | None,
    hardware: Path | None,
    quant: str | None,
    ctx: int | None,
    *,
    shell: bool,
) -> Result:
    """Print llama-server's command line, one option a line. Changes nothing.

    MODEL is a profile, a GGUF file, or OWNER/REPO[:QUANT] of the hub. Default: the profile of the settings.
    """
    resolved = pipeline.resolve(request(session, {"model.quant": quant, "context.tokens": ctx}, model))
    surveyed = pipeline.survey(resolved, hardware)
    resolved, plan = decide(resolved, surveyed)
    words = pipeline.command_line(resolved, surveyed, plan)
    return Result({"argv": list(words)}, shlex.join(words) if shell else "\n".join(lines(words)))
