"""``qwenctl plan``: which quant and context this machine gets, and why."""

from pathlib import Path

import click

from qwenctl.cli.asked import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.control import prepare
from qwenctl.plan.wire import to_json


@click.command("plan", epilog="Example: qwenctl plan --hardware machine.json --json")
@common
@click.option("--hardware", type=click.Path(path_type=Path), metavar="FILE", help="Plan for a saved machine.")
@click.option("--quant", metavar="Q", help="A quant of the profile, instead of the best that fits.")
@click.option("--ctx", type=int, metavar="N", help="Context of each slot, in tokens.")
@click.pass_obj
def command(session: Session, hardware: Path | None, quant: str | None, ctx: int | None) -> Result:
    """Explain which quant and context this machine gets. Changes nothing."""
    resolved = prepare.resolve(request(session, {"model.quant": quant, "context.tokens": ctx}))
    surveyed = prepare.survey(resolved, hardware)
    chosen = prepare.choose(resolved, surveyed.hardware)
    data = to_json(chosen, prepare.command_line(resolved, surveyed, chosen))
    what = f"{chosen.profile} {chosen.quant}, {chosen.context_tokens:,} tokens, KV {chosen.kv_type}"
    return Result(data, f"{what}: {chosen.verdict}")
