"""``qwenctl fetch --prune``: what fetches left behind, listed first, removed only after a yes."""

import sys

import click

from qwenctl import paths
from qwenctl.cli.output import Result, Session
from qwenctl.deploy import model_file, pipeline
from qwenctl.deploy.types import ResolvedSettings
from qwenctl.errors import SettingsError
from qwenctl.fetch.hub import default_hub
from qwenctl.fetch.prune import Leftover, leftovers, remove

GB = 10**9


def prune(session: Session, resolved: ResolvedSettings, *, yes: bool) -> Result:
    """List partial files and quants that the settings do not use, and remove them after a yes.

    Raises:
        SettingsError: nobody can be asked, and ``--yes`` was not given.
    """
    chosen = pipeline.choose(resolved, pipeline.survey(resolved))
    used = frozenset({model_file.model_path(resolved, chosen)})
    found = leftovers(default_hub(offline=True).cache_dir, paths.state_dir(), used)
    lines = [f"{one.kind:8} {one.bytes / GB:7.2f} GB  {one.repo} {one.name}" for one in found]
    if not found:
        return Result({"changed": False, "removed": []}, "nothing to remove")
    session.say("\n".join(lines))
    if not yes and not _asked(found):
        return Result({"changed": False, "removed": [], "found": _json(found)}, "nothing removed")
    freed = remove(found, paths.state_dir())
    data = {"changed": True, "freed_bytes": freed, "removed": _json(found)}
    return Result(data, f"removed {len(found)}, {freed / GB:.2f} GB are free again")


def _asked(found: tuple[Leftover, ...]) -> bool:
    if not sys.stdin.isatty():
        raise SettingsError(f"cannot remove {len(found)} files: nobody to ask", hint="add --yes")
    return click.confirm(f"remove {len(found)}?", err=True)


def _json(found: tuple[Leftover, ...]) -> list[dict[str, object]]:
    return [{"kind": one.kind, "name": one.name, "repo": one.repo, "bytes": one.bytes} for one in found]
