"""``qwenctl settings``: show every setting and where its value comes from."""

import json
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.arguments import request
from qwenctl.cli.group import Group, common
from qwenctl.cli.output import Result, Session
from qwenctl.deploy import pipeline
from qwenctl.deploy.types import PlanRequest
from qwenctl.errors import FetchError
from qwenctl.settings.load import known_keys, value_of


@click.group(
    "settings", cls=Group, invoke_without_command=True, epilog="Example: qwenctl settings check config.toml"
)
@common
@click.pass_context
def command(ctx: click.Context) -> Result | None:
    """Show every setting and where its value comes from."""
    if ctx.invoked_subcommand is not None:
        return None
    try:
        resolved = pipeline.resolve(request(ctx.obj, {}))
    except FetchError as error:  # settings are what helps to find out why
        ctx.obj.say(f"warning: {error.message}")
        resolved = pipeline.resolve_without_model(request(ctx.obj, {}))
    rows = [(key, value_of(resolved.settings, key), resolved.origins[key]) for key in known_keys()]
    width = max(len(key) for key, _, _ in rows)
    lines = [(f"{key:{width}} = {json.dumps(value)}", origin) for key, value, origin in rows]
    column = max(len(text) for text, _ in lines)
    text = "\n".join(f"{text:{column}}  # {origin}" for text, origin in lines)
    return Result({key: {"value": value, "origin": origin} for key, value, origin in rows}, text)


@command.command("check", epilog="Example: qwenctl settings check config.toml")
@common
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def check(session: Session, file: Path) -> Result:
    """Check whether a config file is valid. Changes nothing."""
    session.config = str(file)
    resolved = pipeline.resolve(PlanRequest(paths.state_dir(), {}, file.absolute(), {}))
    return Result({"valid": True, "profile": resolved.profile.name}, f"{file}: valid")
