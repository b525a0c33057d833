"""``qwenctl check``: check that a server works correctly."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from qwenctl.cli.arguments import model_argument
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.cli.target import UNSAFE, Target, endpoint, target
from qwenctl.errors import ExitCode

if TYPE_CHECKING:
    from qwenctl.client.check.run_checks import Expected

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "repeat_penalty")
MARKS = {"pass": "pass ", "fail": "FAIL ", "wrong": "wrong", "not judged": "  ?  "}


@click.command("check", epilog="Example: qwenctl check --mechanics")
@common
@model_argument
@endpoint
@click.option(
    "--mechanics", is_flag=True, help="Run only the checks that do not depend on how good the model is."
)
@click.option("--unsafe", is_flag=True, help=UNSAFE)
@click.pass_obj
def command(
    session: Session, /, model: str | None, url: str | None, api_key_file: Path | None, **switches: bool
) -> Result:
    """Check that the server works correctly, and that the model can do typical tasks.

    MODEL is what the daemon must be serving. Default: whatever it serves.
    Exits 1 when a check fails. A wrong answer of the model is shown and is no failure of the server; neither
    is a check that cannot be judged.
    """
    from qwenctl.client.check.model_checks import MODEL_CHECKS
    from qwenctl.client.check.protocol_checks import PROTOCOL_CHECKS
    from qwenctl.client.check.run_checks import run

    where = target(session, url, api_key_file, model)
    expected = _planned(where, unsafe=switches["unsafe"])
    checks = PROTOCOL_CHECKS if switches["mechanics"] else {**PROTOCOL_CHECKS, **MODEL_CHECKS}
    items = []
    with where.api() as api:
        for item in run(api, expected, checks):
            session.say(f"{MARKS[item.verdict]}  {item.name:32} {item.evidence}  ({item.took_s:.1f} s)")
            items.append(item)
    counts = {verdict: sum(item.verdict == verdict for item in items) for verdict in MARKS}
    data = {
        "url": where.url,
        "items": [
            {
                "name": item.name,
                "verdict": item.verdict,
                "evidence": item.evidence,
                "took_s": round(item.took_s, 3),
            }
            for item in items
        ],
        "passed": counts["pass"],
        "failed": counts["fail"],
        "wrong": counts["wrong"],
        "not_judged": counts["not judged"],
    }
    text = (
        f"{counts['pass']} passed, {counts['fail']} failed, "
        f"{counts['wrong']} wrong answers of the model, {counts['not judged']} not judged"
    )
    return Result(data, text, ExitCode.FAILED if counts["fail"] else ExitCode.OK)


def _planned(where: Target, *, unsafe: bool) -> "Expected":
    """Return what the plan promises. Nothing is known of a server that is not our daemon's."""
    from qwenctl.client.check.run_checks import Expected

    if where.resolved is None or where.status is None:
        return Expected(unsafe=unsafe)
    plan = where.status.get("plan")
    plan = plan if isinstance(plan, dict) else {}
    sampling = where.resolved.settings.sampling
    values = ((name, getattr(sampling, name)) for name in SAMPLING)
    model, context = plan.get("profile"), plan.get("context_tokens")
    return Expected(
        model=model if isinstance(model, str) else None,
        context_tokens=context if isinstance(context, int) else None,
        sampling=tuple((name, float(value)) for name, value in values if value is not None),
        random=where.resolved.profile.generated,
        unsafe=unsafe,
    )
