"""``qwenctl plan``: which quant and context this machine gets, and why."""

from pathlib import Path

import click

from qwenctl.cli.arguments import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.plan_view import view
from qwenctl.cli.verify import to_json as verified_to_json
from qwenctl.cli.verify import verified
from qwenctl.deploy import pipeline
from qwenctl.plan.wire import to_json


@click.command("plan", epilog="Example: qwenctl plan --hardware machine.json --json")
@common
@click.option("--hardware", type=click.Path(path_type=Path), metavar="FILE", help="Plan for a saved machine.")
@click.option("--quant", metavar="Q", help="A quant of the profile, instead of the best that fits.")
@click.option("--ctx", type=int, metavar="N", help="Context of each slot, in tokens.")
@click.option("--verify", is_flag=True, help="Ask the engine too, by the file's header alone.")
@click.pass_obj
def command(
    session: Session, /, hardware: Path | None, quant: str | None, ctx: int | None, *, verify: bool
) -> Result:
    """Explain which quant and context this machine gets. Changes nothing."""
    resolved = pipeline.resolve(request(session, {"model.quant": quant, "context.tokens": ctx}))
    surveyed = pipeline.survey(resolved, hardware)
    for warning in surveyed.hardware.warnings:
        session.say(f"warning: {warning}")
    chosen = pipeline.choose(resolved, surveyed)
    checked = verified(resolved, surveyed, chosen) if verify else None
    data = to_json(chosen, pipeline.command_line(resolved, surveyed, chosen))
    if checked is not None:
        data["verification"] = verified_to_json(checked)
    return Result(data, view(resolved.profile, chosen, surveyed.hardware, checked))
