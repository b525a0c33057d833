"""``qwenctl connect``: what a client has to be told to use the endpoint."""

import shlex
from dataclasses import replace
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.arguments import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.client.connect import clients
from qwenctl.client.connect.advice import Advice, Client, ClientFile, Where, exports, yaml
from qwenctl.client.connect.config_file import Changed, update
from qwenctl.client.connect.config_text import into_json, into_toml, merged
from qwenctl.control.state_dir import read_status, running
from qwenctl.deploy import pipeline
from qwenctl.deploy.address import address
from qwenctl.errors import QwenctlError, SettingsError
from qwenctl.gate import guard
from qwenctl.settings.load import API_KEY, api_keys
from qwenctl.settings.types import Settings

FIRST_LINE = r"grep -m 1 -v -e '^[[:space:]]*#' -e '^[[:space:]]*$' {}"
"""Prints the first key of a key file."""
FIRST_WORD = f'"${{{API_KEY}%%[,[:space:]]*}}"'


class Name(click.Choice[str]):
    """The name of a client."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name.

        Raises:
            SettingsError: there is no such client.
        """
        if value not in clients.CLIENTS:
            known = ", ".join(clients.CLIENTS)
            raise SettingsError(f"cannot connect {value!r}: no such client", hint=f"one of {known}")
        return super().convert(value, param, ctx)


@click.command("connect", epilog="Example: qwenctl connect codex --write")
@common
@click.argument("client", type=Name(list(clients.CLIENTS)))
@click.option("--write", is_flag=True, help="Put it into the client's own settings, with a backup.")
@click.pass_obj
def command(session: Session, client: str, write: bool) -> Result:  # noqa: FBT001 - click's name
    """Print what a client has to be told to use the endpoint.

    What it prints is for a shell to evaluate, or for the client's settings. A key is named, never printed.
    """
    known = clients.CLIENTS[client]
    where, notes = _where(session)
    told = known.advise(where)
    told = replace(told, notes=(*notes, *told.notes))
    text = _text(known, told)
    data = _data(client, known, told, where, text)
    path = None if known.file is None else _path(known.file)
    if not write:
        _talk(session, known, told, path)
        return Result(data, text)
    try:
        done = _write(client, path, told)
    except QwenctlError as error:
        error.hint, error.data = f"qwenctl connect {client} prints what belongs there", data
        if path is None:
            session.say(text)
        raise
    for note in told.notes:
        session.say(f"note: {note}")
    data |= {
        "path": str(done.path),
        "changed": done.changed,
        "backup": str(done.backup) if done.backup else None,
    }
    said = f"{done.path}: {'written' if done.changed else 'unchanged'}"
    return Result(data, f"{said}; before: {done.backup}" if done.backup else said)


def _write(client: str, path: Path | None, told: Advice) -> Changed:
    """Put the settings into the client's file.

    Raises:
        SettingsError: it has none that can be written.
        ClientError: the file cannot be understood or written.
    """
    if path is None or told.settings is None:
        raise SettingsError(f"cannot write settings for {client}: {clients.CLIENTS[client].unwritten}")
    settings, into = told.settings, into_toml if path.suffix == ".toml" else into_json
    return update(path, lambda old: into(old, settings))


def _where(session: Session) -> tuple[Where, tuple[str, ...]]:
    """Return the endpoint of the running daemon, else of the settings, and what there is to say about it."""
    folder = paths.state_dir()
    status = (read_status(folder) if running(folder) is not None else None) or {}
    resolved = pipeline.resolve(request(session, {}))
    settings, plan = resolved.settings, status.get("plan")
    shown = plan if isinstance(plan, dict) else {}
    url = str(status.get("endpoint") or f"{address(settings).url}/v1").removesuffix("/v1")
    tokens = shown.get("context_tokens")
    gate, server = settings.gate, settings.server
    key, notes = _key(settings, asked=status.get("asks_key"))
    if not status:
        notes += ("the daemon is not running: this is what the settings say",)
    rules = guard.rules(server.host, gate.allowed_hosts, gate.allowed_origins) if gate.enabled else None
    model = str(shown.get("profile") or resolved.profile.name)
    return Where(url, model, tokens if isinstance(tokens, int) else None, key, server.host, rules), notes


def _key(settings: Settings, *, asked: object) -> tuple[str | None, tuple[str, ...]]:
    """Return the shell word that yields a key; None where none is asked for."""
    given, file = api_keys(), settings.server.api_key_file
    if asked is False or (asked is None and not given and file is None):
        return None, ()
    if given:
        return FIRST_WORD if len(given) > 1 else f'"${API_KEY}"', ()
    if file is not None:
        path = Path(file).expanduser().absolute()
        return f'"$({FIRST_LINE.format(shlex.quote(str(path)))})"', ()
    return f'"${API_KEY}"', (
        f"the daemon asks for a key that this shell lacks: set {API_KEY} to one of them",
    )


def _text(known: Client, told: Advice) -> str:
    """Return what to evaluate or to put into a file."""
    settings = told.settings or {}
    match known.prints:
        case "shell":
            return exports(told.variables)
        case "toml":
            return into_toml("", settings).rstrip("\n")
        case "json":
            return into_json("", settings).rstrip("\n")
        case "yaml":
            return yaml(settings)


def _talk(session: Session, known: Client, told: Advice, path: Path | None) -> None:
    """Say around it what a person needs to know."""
    session.say(f"# {known.title}{f': {path} (--write puts it there)' if path else ''}")
    for note in told.notes:
        session.say(f"# {note}")
    session.say(f"# source: {known.sources[0]}")


def _data(client: str, known: Client, told: Advice, where: Where, text: str) -> dict[str, object]:
    return {
        "client": client,
        "base_url": told.base_url,
        "model": where.model,
        "key": {"asked": where.key is not None, "variable": told.key_variable, "shell": where.key},
        "variables": dict(told.variables),
        "settings": None if told.settings is None else merged({}, told.settings),
        "path": str(_path(known.file)) if known.file else None,
        "text": text,
        "notes": list(told.notes),
        "sources": list(known.sources),
    }


def _path(file: ClientFile) -> Path:
    return paths.client_file(file.variable, file.folder, file.name)
