"""``qwenctl connect``: print or write the settings that a client needs to use the endpoint."""

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
from qwenctl.engine.address import endpoint_address
from qwenctl.errors import QwenctlError, SettingsError
from qwenctl.gate import guard
from qwenctl.settings.load import API_KEY, api_keys
from qwenctl.settings.types import Settings

FIRST_LINE = r"grep -m 1 -v -e '^[[:space:]]*#' -e '^[[:space:]]*$' {}"
"""Prints the first key of a key file."""
FIRST_WORD = f'"${{{API_KEY}%%[,[:space:]]*}}"'


class ClientName(click.Choice[str]):
    """The name of a client."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name.

        Raises:
            SettingsError: there is no such client.
        """
        if value not in clients.CLIENTS:
            names = ", ".join(clients.CLIENTS)
            raise SettingsError(f"cannot connect {value!r}: no such client", hint=f"one of {names}")
        return super().convert(value, param, ctx)


@click.command("connect", epilog="Example: qwenctl connect codex --write")
@common
@click.argument("name", metavar="CLIENT", type=ClientName(list(clients.CLIENTS)))
@click.option("--write", is_flag=True, help="Write it into the client's own settings file. Keeps a backup.")
@click.pass_obj
def command(session: Session, name: str, *, write: bool) -> Result:
    """Print the settings that CLIENT needs to use the endpoint.

    Evaluate the output in a shell, or put it into the client's settings file. An API key is never printed,
    only the variable or the file that holds it.
    """
    client = clients.CLIENTS[name]
    where, notes = _where(session)
    advice = client.advise(where)
    advice = replace(advice, notes=(*notes, *advice.notes))
    text = _text(client, advice)
    data = _data(name, client, advice, where, text)
    path = None if client.file is None else _path(client.file)
    if not write:
        _talk(session, client, advice, path)
        return Result(data, text)
    try:
        change = _write(name, path, advice)
    except QwenctlError as error:
        error.hint, error.data = f"qwenctl connect {name} prints the settings", data
        if path is None:
            session.say(text)
        raise
    for note in advice.notes:
        session.say(f"note: {note}")
    data |= {
        "path": str(change.path),
        "changed": change.changed,
        "backup": str(change.backup) if change.backup else None,
    }
    summary = f"{change.path}: {'written' if change.changed else 'unchanged'}"
    return Result(data, f"{summary}; backup: {change.backup}" if change.backup else summary)


def _write(name: str, path: Path | None, advice: Advice) -> Changed:
    """Put the settings into the client's file.

    Raises:
        SettingsError: this client has no file that we can write.
        ClientError: the file cannot be understood or written.
    """
    if path is None or advice.settings is None:
        raise SettingsError(f"cannot write settings for {name}: {clients.CLIENTS[name].unwritten}")
    settings, into = advice.settings, into_toml if path.suffix == ".toml" else into_json
    return update(path, lambda old: into(old, settings))


def _where(session: Session) -> tuple[Where, tuple[str, ...]]:
    """Return the endpoint of the running daemon, else of the settings, and notes about it."""
    folder = paths.state_dir()
    status = (read_status(folder) if running(folder) is not None else None) or {}
    resolved = pipeline.resolve(request(session, {}))
    settings, plan = resolved.settings, status.get("plan")
    plan_status = plan if isinstance(plan, dict) else {}
    url = str(status.get("endpoint") or f"{endpoint_address(settings).url}/v1").removesuffix("/v1")
    tokens = plan_status.get("context_tokens")
    gate, server = settings.gate, settings.server
    key, notes = _key(settings, asks_key=status.get("asks_key"))
    if not status:
        notes += ("the daemon is not running; address and model come from the settings",)
    rules = guard.rules(server.host, gate.allowed_hosts, gate.allowed_origins) if gate.enabled else None
    model = str(plan_status.get("profile") or resolved.profile.name)
    return Where(url, model, tokens if isinstance(tokens, int) else None, key, server.host, rules), notes


def _key(settings: Settings, *, asks_key: object) -> tuple[str | None, tuple[str, ...]]:
    """Return the shell word that yields a key; None where the endpoint asks for no key."""
    keys, file = api_keys(), settings.server.api_key_file
    if asks_key is False or (asks_key is None and not keys and file is None):
        return None, ()
    if keys:
        return FIRST_WORD if len(keys) > 1 else f'"${API_KEY}"', ()
    if file is not None:
        path = Path(file).expanduser().absolute()
        return f'"$({FIRST_LINE.format(shlex.quote(str(path)))})"', ()
    return f'"${API_KEY}"', (f"the daemon asks for an API key, and none is set here: set {API_KEY}",)


def _text(client: Client, advice: Advice) -> str:
    """Return the text for a shell or for the client's settings file."""
    settings = advice.settings or {}
    match client.prints:
        case "shell":
            return exports(advice.variables)
        case "toml":
            return into_toml("", settings).rstrip("\n")
        case "json":
            return into_json("", settings).rstrip("\n")
        case "yaml":
            return yaml(settings)


def _talk(session: Session, client: Client, advice: Advice, path: Path | None) -> None:
    """Print where the text goes, notes, and the source."""
    session.say(f"# {client.title}{f': {path} (--write writes it)' if path else ''}")
    for note in advice.notes:
        session.say(f"# {note}")
    session.say(f"# source: {client.sources[0]}")


def _data(name: str, client: Client, advice: Advice, where: Where, text: str) -> dict[str, object]:
    return {
        "client": name,
        "base_url": advice.base_url,
        "model": where.model,
        "key": {"asked": where.key is not None, "variable": advice.key_variable, "shell": where.key},
        "variables": dict(advice.variables),
        "settings": None if advice.settings is None else merged({}, advice.settings),
        "path": str(_path(client.file)) if client.file else None,
        "text": text,
        "notes": list(advice.notes),
        "sources": list(client.sources),
    }


def _path(file: ClientFile) -> Path:
    return paths.client_file(file.variable, file.folder, file.name)
