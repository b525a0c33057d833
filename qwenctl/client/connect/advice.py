"""The settings that a client needs for an endpoint, as shell variables or YAML. Pure: no I/O."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from qwenctl.gate import guard


class Only(NamedTuple):
    """A value that is written while it is ``wanted``, and removed otherwise. A person's own value stays."""

    value: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class Where:
    """An endpoint. ``url`` has no ``/v1``. ``key`` is a shell word for the API key; None: no key is needed.

    ``context_tokens`` None: not known. ``rules`` None: there is no gate.
    """

    url: str
    model: str
    context_tokens: int | None = None
    key: str | None = None
    host: str = "127.0.0.1"
    rules: guard.Rules | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """The settings of one client: environment variables as shell words, or a settings file."""

    base_url: str
    key_variable: str
    variables: Mapping[str, str]
    settings: Mapping[str, object] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A settings file. It is in the folder that ``variable`` names, else in ``folder``."""

    variable: str
    folder: str
    name: str


@dataclass(frozen=True, slots=True)
class Client:
    """One client. ``file`` is the file for ``--write``; without one ``unwritten`` says why."""

    title: str
    prints: Literal["shell", "toml", "json", "yaml"]
    advise: Callable[[Where], Advice]
    sources: tuple[str, ...]
    file: ClientFile | None = None
    unwritten: str = "it reads environment variables, not a file"


def exports(variables: Mapping[str, str]) -> str:
    """Return the lines that a shell evaluates."""
    return "\n".join(f"export {name}={word}" for name, word in variables.items())


def yaml(value: object, indent: int = 0) -> str:
    """Return nested tables and lists of tables as YAML. Flat values are JSON, which is YAML, too."""
    pad = " " * indent
    lines: list[str] = []
    for key, entry in value.items() if isinstance(value, Mapping) else ():
        if isinstance(entry, Mapping):
            lines.append(f"{pad}{key}:\n{yaml(entry, indent + 2)}")
        elif isinstance(entry, list) and entry and isinstance(entry[0], Mapping):
            items = (yaml(item, indent + 4) for item in entry)
            lines.append(f"{pad}{key}:")
            lines += [f"{pad}  - {item.lstrip()}" for item in items]
        else:
            lines.append(f"{pad}{key}: {json.dumps(entry)}")
    return "\n".join(lines)
