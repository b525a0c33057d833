"""``qwenctl service wired-limit``: let Metal use more memory, also after a restart of the Mac."""

import os
import sys

import click

from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.errors import ControlError, SettingsError
from qwenctl.hardware.detect import SystemProbe, detect
from qwenctl.hardware.facts import Hardware
from qwenctl.service import command as programs
from qwenctl.service import wired_limit as limit


@click.command("wired-limit", epilog="Example: sudo qwenctl service wired-limit max")
@common
@click.argument("asked", metavar="[MIB|max|off]", required=False)
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.pass_obj
def command(session: Session, asked: str | None, *, yes: bool) -> Result:
    """macOS: let Metal use more memory, also after a restart. Without a number, show what is set.

    A file for launchd sets the limit at each boot. It is shown before it is written; root writes it. off
    removes it and gives the limit back to macOS.
    """
    hardware = detect(SystemProbe.real())
    most = limit.most_mib(hardware)
    if asked is None:
        return _shown(hardware, most)
    if asked == "off":
        if limit.kept_mib() is None:
            return Result({"changed": False, "kept_mib": None}, "macOS' own limit is in force")
        _check_root("off")
        return _done(session, limit.drop(programs.run), None)
    mib = limit.wanted_mib(asked, hardware)
    if limit.kept_mib() != mib:
        session.say(f"{limit.PLACE} will contain\n{limit.text_of(mib).rstrip()}")
        _check_root(str(mib))
        if not yes and not _confirmed():
            return Result({"changed": False, "kept_mib": limit.kept_mib()}, "nothing written")
    else:
        _check_root(str(mib))
    return _done(session, limit.keep(mib, programs.run), mib)


def _shown(hardware: Hardware, most: int) -> Result:
    now = next((gpu.wired_limit_bytes for gpu in hardware.accelerators if gpu.backend == "metal"), None)
    kept = limit.kept_mib()
    data = {"now_mib": (now or 0) // limit.MIB, "kept_mib": kept, "most_mib": most}
    lines = [
        f"now         {f'{now // limit.MIB} MiB' if now else 'macOS decides'}",
        f"at boot     {f'{kept} MiB ({limit.PLACE})' if kept else 'macOS decides'}",
        f"at most     {most} MiB; sudo qwenctl service wired-limit max sets that",
    ]
    return Result(data, "\n".join(lines))


def _done(session: Session, changes: list[str], kept: int | None) -> Result:
    for change in changes:
        session.say(change)
    text = "macOS' own limit is in force again" if kept is None else f"Metal may use {kept} MiB from now on"
    return Result({"changed": bool(changes), "changes": changes, "kept_mib": kept}, text)


def _check_root(words: str) -> None:
    if os.geteuid() != 0:
        raise ControlError(
            f"cannot write {limit.PLACE}: only root can", hint=f"sudo qwenctl service wired-limit {words}"
        )


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise SettingsError(f"cannot write {limit.PLACE}: there is no terminal to ask on", hint="add --yes")
    return click.confirm(f"write {limit.PLACE}?", err=True)
