"""``qwenctl plan``: which quant and context this machine gets, and why."""

from pathlib import Path

import click

from qwenctl.cli.arguments import model_argument, request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.plan_view import view
from qwenctl.cli.verify import to_json as verified_to_json
from qwenctl.cli.verify import verified
from qwenctl.deploy import model_file, pipeline
from qwenctl.deploy.exact_plan import decide
from qwenctl.plan.wire import to_json
from qwenctl.service.wired_limit import lost_limits


@click.command("plan", epilog="Example: qwenctl plan --hardware machine.json --json")
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
@click.option(
    "--verify",
    is_flag=True,
    help="Also ask llama.cpp how much memory this needs. Downloads only the file's header.",
)
@click.pass_obj
def command(
    session: Session,
    /,
    model: str | None,
    hardware: Path | None,
    quant: str | None,
    ctx: int | None,
    *,
    verify: bool,
) -> Result:
    """Explain which quant and context this machine gets. Changes nothing.

    MODEL is a profile, a GGUF file, or OWNER/REPO[:QUANT] of the hub. Default: the profile of the settings.
    """
    resolved = pipeline.resolve(request(session, {"model.quant": quant, "context.tokens": ctx}, model))
    surveyed = pipeline.survey(resolved, hardware)
    for warning in surveyed.hardware.warnings:
        session.say(f"warning: {warning}")
    for warning in lost_limits(surveyed.hardware) if hardware is None else ():
        session.say(f"warning: {warning}")
    resolved, plan = decide(resolved, surveyed)
    checked = verified(resolved, surveyed, plan) if verify else None
    path = model_file.model_path(resolved, plan)
    engine = surveyed.server.identity.to_json() if surveyed.server is not None else None
    data = to_json(plan, pipeline.command_line(resolved, surveyed, plan))
    data |= {"path": str(path), "engine": engine}
    if checked is not None:
        data["verification"] = verified_to_json(checked)
    return Result(data, view(resolved.profile, plan, surveyed.hardware, checked, path, engine))
