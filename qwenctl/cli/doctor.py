"""``qwenctl doctor``: look for problems on this machine, and say how to fix them."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from qwenctl.cli.arguments import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.errors import ExitCode
from qwenctl.service.diagnosis import Check

SIGNS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}


@click.command("doctor", epilog="Example: qwenctl doctor --json")
@common
@click.pass_obj
def command(session: Session) -> Result:
    """Look for problems on this machine, and say how to fix them. Exits 1 on a problem. Changes nothing."""
    from qwenctl.cli.doctor_checks import examine

    checks = examine(request(session, {}))
    bad = sum(check.verdict == "problem" for check in checks)
    data = {"problems": bad, "checks": [asdict(check) for check in checks]}
    return Result(data, "\n".join(_lines(checks)), ExitCode.FAILED if bad else ExitCode.OK)


def _lines(checks: Sequence[Check]) -> list[str]:
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{SIGNS[check.verdict]:7}  {check.name:{width}}  {check.finding}  [{check.looked_at}]")
        if check.fix and check.verdict != "ok":
            lines.append(f"{'':7}  {'':{width}}  -> {check.fix}")
    return lines
