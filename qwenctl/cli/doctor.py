"""``qwenctl doctor``: what is wrong here, and what to do."""

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
    """Say what is wrong here, and what to do. Exits 1 on a problem; changes nothing."""
    from qwenctl.cli.doctor_checks import examine

    found = examine(request(session, {}))
    bad = sum(check.verdict == "problem" for check in found)
    data = {"problems": bad, "checks": [asdict(check) for check in found]}
    return Result(data, "\n".join(_lines(found)), ExitCode.FAILED if bad else ExitCode.OK)


def _lines(found: Sequence[Check]) -> list[str]:
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        lines.append(f"{SIGNS[check.verdict]:7}  {check.name:{width}}  {check.finding}  [{check.looked_at}]")
        if check.fix and check.verdict != "ok":
            lines.append(f"{'':7}  {'':{width}}  -> {check.fix}")
    return lines
