"""``qwenctl profiles``: list the model profiles, the shipped ones and a person's own."""

import click

from qwenctl import paths
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.errors import ProfileError
from qwenctl.model.toml import find_profiles, load_profile, read_or_fault


@click.command("profiles", epilog="Example: qwenctl profiles qwen3.6-27b")
@common
@click.argument("name", required=False)
@click.pass_obj
def command(session: Session, name: str | None) -> Result:
    """List the model profiles, or the quants of one."""
    del session
    shipped, own = paths.data_root() / "profiles", paths.config_dir() / "profiles"
    if name is not None:
        profile = load_profile(name, shipped, own)
        lines = [
            f"{quant.name:12} {quant.bytes / 1e9:6.2f} GB  {quant.note or ''}".rstrip()
            for quant in profile.quants
        ]
        return Result(profile.model_dump(mode="json", by_alias=True), "\n".join([profile.title, *lines]))
    lines, data = [], []
    for each in find_profiles(shipped, own):
        read = read_or_fault(each)
        fault = read.message if isinstance(read, ProfileError) else None
        title = None if isinstance(read, ProfileError) else read.title
        lines.append(f"{each.name:18} {each.origin:8} {title if fault is None else f'unusable: {fault}'}")
        path = str(each.path)
        data.append({"name": each.name, "origin": each.origin, "path": path, "title": title, "fault": fault})
    return Result(data, "\n".join(lines))
