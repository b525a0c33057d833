"""``qwenctl fetch --prune``: list partial downloads and unused quants, and remove them after a yes."""

import sys

import click

from qwenctl import paths
from qwenctl.cli.output import Result, Session
from qwenctl.deploy.models_in_use import models_in_use
from qwenctl.deploy.types import PlanRequest
from qwenctl.errors import SettingsError
from qwenctl.fetch.hub import default_hub
from qwenctl.fetch.prune import Leftover, leftovers, remove

GB = 10**9


def prune(session: Session, request: PlanRequest, *, yes: bool) -> Result:
    """List partial files and quants that neither the daemon nor the settings use; remove them after a yes.

    Raises:
        SettingsError: there is no terminal to ask on, and ``--yes`` was not given.
    """
    state = paths.state_dir()
    using = models_in_use(state, request.config, request)
    unused = leftovers(default_hub(offline=True).cache_dir, state, using.paths, using.requests)
    lines = [f"{one.kind:8} {one.bytes / GB:7.2f} GB  {one.repo} {one.name}" for one in unused]
    if not unused:
        return Result({"changed": False, "removed": []}, "nothing to remove")
    session.say("\n".join(lines))
    if not yes and not _confirmed(unused):
        return Result({"changed": False, "removed": [], "found": _json(unused)}, "nothing removed")
    freed = remove(unused, paths.state_dir())
    data = {"changed": True, "freed_bytes": freed, "removed": _json(unused)}
    return Result(data, f"removed {len(unused)} files; {freed / GB:.2f} GB are free again")


def _confirmed(unused: tuple[Leftover, ...]) -> bool:
    if not sys.stdin.isatty():
        raise SettingsError(
            f"cannot remove {len(unused)} files: there is no terminal to ask on", hint="add --yes"
        )
    return click.confirm(f"remove {len(unused)} files?", err=True)


def _json(unused: tuple[Leftover, ...]) -> list[dict[str, object]]:
    return [{"kind": one.kind, "name": one.name, "repo": one.repo, "bytes": one.bytes} for one in unused]
