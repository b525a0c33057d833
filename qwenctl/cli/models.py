"""``qwenctl models``: the models on this disk, whoever brought them; ``models rm`` removes some."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.arguments import config
from qwenctl.cli.group import Group, common
from qwenctl.cli.output import Result, Session
from qwenctl.deploy.models_on_disk import Library, library
from qwenctl.errors import SettingsError
from qwenctl.fetch.remove_models import removal_of, remove_models
from qwenctl.model.library import LibraryModel, find_model
from qwenctl.model.library_removal import refusal_of

GB = 10**9
NOTHING = (
    "no model is on this disk\n"
    "get one: qwenctl up downloads the model of the settings, qwenctl up OWNER/REPO[:QUANT] any other;\n"
    "qwenctl profiles lists those that come with their settings"
)
FOLDER = click.option(
    "--folder",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="Look into this folder, too. May be given more than once.",
)


@click.group("models", cls=Group, invoke_without_command=True, epilog="Example: qwenctl models --json")
@common
@FOLDER
@click.pass_context
def command(ctx: click.Context, folders: tuple[Path, ...]) -> Result | None:
    """List the models on this disk, or remove some."""
    session: Session = ctx.obj
    if ctx.invoked_subcommand is not None:
        return None
    found = library(paths.state_dir(), config(session), folders)
    for note in found.notes:
        session.say(f"note: {note}")
    data = {
        "models": [_json(model) for model in found.models],
        "bytes": found.bytes,
        "notes": list(found.notes),
    }
    return Result(data, _table(found) if found.models else NOTHING)


@command.command("rm", epilog="Example: qwenctl models rm unsloth/Qwen3.6-27B-GGUF:Q4_K_M")
@common
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@FOLDER
@click.option("--dry-run", is_flag=True, help="Show what would be removed. Removes nothing.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.pass_obj
def remove(
    session: Session, names: tuple[str, ...], folders: tuple[Path, ...], *, dry_run: bool, yes: bool
) -> Result:
    """Remove models from this disk and say how much space that frees.

    NAME is what qwenctl models shows, or the name of a file. What is served or wanted stays. The models of
    Ollama and those in a folder of your own are not removed here.
    """
    found = library(paths.state_dir(), config(session), folders)
    chosen = tuple(dict.fromkeys(_chosen(found, name) for name in names))
    for model in chosen:
        if (refusal := refusal_of(model)) is not None:
            raise refusal
    removal = removal_of(chosen)
    session.say("\n".join(f"{model.bytes / GB:8.2f} GB  {model.up}" for model in chosen))
    data = {
        "changed": False,
        "models": [model.up for model in chosen],
        "paths": [str(doomed.path) for doomed in removal.paths],
        "freed_bytes": removal.freed_bytes,
    }
    freed = f"{removal.freed_bytes / GB:.2f} GB"
    if dry_run:
        return Result(data, f"would free {freed}{_why_less(chosen, removal.freed_bytes)}")
    if not yes and not _confirmed(chosen, freed):
        return Result(data | {"freed_bytes": 0}, "nothing removed")
    remove_models(chosen, removal, paths.state_dir())
    text = f"removed {_count(chosen)}; {freed} are free again{_why_less(chosen, removal.freed_bytes)}"
    return Result(data | {"changed": True}, text)


def _chosen(found: Library, name: str) -> LibraryModel:
    """Return the one model of that name.

    Raises:
        SettingsError: there is none, or there are several.
    """
    models = find_model(found.models, name)
    if not models:
        raise SettingsError(
            f"cannot remove {name}: no such model on this disk", hint="qwenctl models lists them"
        )
    if len(models) > 1:
        raise SettingsError(
            f"cannot remove {name}: {len(models)} models are called that",
            hint=f"name one of {'; '.join(model.up for model in models[:4])}",
        )
    return models[0]


def _table(found: Library) -> str:
    rows = [("SIZE", "QUANT", "ARCHITECTURE", "FROM", "LAST USED", "qwenctl up ...")]
    for model in found.models:
        use = f"  ({model.use})" if model.use else ""
        label = f"  ({model.first.label})" if model.first.origin == "Ollama" else ""
        rows.append(
            (
                f"{model.bytes / GB:.2f} GB",
                model.quant or "?",
                model.architecture or "?",
                model.first.origin,
                _time(model)[:10],
                f"{model.up}{label}{use}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join((*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[5]))
        for row in rows
    ]
    return "\n".join([*lines, f"{_count(found.models)}, {found.bytes / GB:.2f} GB"])


def _json(model: LibraryModel) -> dict[str, object]:
    first = model.first
    return {
        "up": model.up,
        "label": first.label,
        "path": str(first.disk.path),
        "files": [str(file.disk.path) for file in model.files],
        "bytes": model.bytes,
        "quant": model.quant,
        "architecture": model.architecture,
        "origin": first.origin,
        "repo": first.repo,
        "commit": first.commit,
        "last_used": _time(model),
        "use": model.use,
        "removable": refusal_of(model) is None,
    }


def _time(model: LibraryModel) -> str:
    return datetime.fromtimestamp(model.used_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _count(models: tuple[LibraryModel, ...]) -> str:
    return f"{len(models)} model{'' if len(models) == 1 else 's'}"


def _why_less(chosen: tuple[LibraryModel, ...], freed_bytes: int) -> str:
    """Say why less is free than the models are large: another name of the same bytes stays."""
    size = sum(model.bytes for model in chosen)
    return "" if freed_bytes >= size * 0.99 else "; the rest has other names on this disk, or is a hole"


def _confirmed(chosen: tuple[LibraryModel, ...], freed: str) -> bool:
    if not sys.stdin.isatty():
        raise SettingsError(
            f"cannot remove {_count(chosen)}: there is no terminal to ask on", hint="add --yes"
        )
    return click.confirm(f"remove {_count(chosen)} and free {freed}?", err=True)
