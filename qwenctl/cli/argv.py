"""``qwenctl argv``: llama-server's command line, as it would be started."""

import shlex
from pathlib import Path

import click

from qwenctl.cli.arguments import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.deploy import pipeline
from qwenctl.launch.argv import lines


@click.command("argv", epilog="Example: qwenctl argv --hardware machine.json --shell")
@common
@click.option("--hardware", type=click.Path(path_type=Path), metavar="FILE", help="Plan for a saved machine.")
@click.option("--quant", metavar="Q", help="A quant of the profile, instead of the best that fits.")
@click.option("--ctx", type=int, metavar="N", help="Context of each slot, in tokens.")
@click.option("--shell", is_flag=True, help="One line, quoted for a shell.")
@click.pass_obj
def command(
    session: Session, hardware: Path | None, quant: str | None, ctx: int | None, *, shell: bool
) -> Result:
    """Print llama-server's command line, one option a line. Changes nothing."""
    resolved = pipeline.resolve(request(session, {"model.quant": quant, "context.tokens": ctx}))
    surveyed = pipeline.survey(resolved, hardware)
    chosen = pipeline.choose(resolved, surveyed)
    words = pipeline.command_line(resolved, surveyed, chosen)
    return Result({"argv": list(words)}, shlex.join(words) if shell else "\n".join(lines(words)))
