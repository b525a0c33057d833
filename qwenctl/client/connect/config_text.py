"""Put settings into the text of a JSON or TOML file, and keep everything else. Pure: no I/O.

A text that has all the settings already is returned unchanged. A text that cannot be understood is an error.
"""

import json
from collections.abc import Mapping, MutableMapping

import tomlkit
from tomlkit.exceptions import TOMLKitError

from qwenctl.client.connect.advice import Only


def into_json(text: str, settings: Mapping[str, object]) -> str:
    """Return the text with the settings in it.

    Raises:
        ValueError: the text is no JSON object, or has another kind of value where a table is needed.
    """
    old = json.loads(text, object_pairs_hook=_once) if text.strip() else {}
    if not isinstance(old, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004 - what a file holds, not what code passes
    new = merged(old, settings)
    return text if new == old else json.dumps(new, indent=_indent(text), ensure_ascii=False) + "\n"


def into_toml(text: str, settings: Mapping[str, object]) -> str:
    """Return the text with the settings in it. Comments and order stay.

    Raises:
        ValueError: the text is no TOML, has another kind of value where a table is needed, or spreads its
            tables so that nothing can be added.
    """
    try:
        document = tomlkit.parse(text)
        old = document.unwrap()
        new = merged(old, settings)
        if new == old:
            return text
        _set(document, settings)
        changed = tomlkit.dumps(document)
        if tomlkit.parse(changed).unwrap() == new:
            return changed
    except TOMLKitError as error:
        raise ValueError(str(error).lower()) from error
    raise ValueError("its tables are spread over the file, so that nothing can be added")


def merged(old: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    """Return the table with the settings in it.

    Raises:
        ValueError: the table has another kind of value where a table is needed.
    """
    new = dict(old)
    for key, value in settings.items():
        there = new.get(key)
        if isinstance(value, Only):
            if value.wanted:
                new.setdefault(key, value.value)
            elif there == value.value:
                del new[key]
        elif isinstance(value, Mapping):
            if key in new and not isinstance(there, Mapping):
                raise ValueError(f"its {key} is not a table")
            new[key] = merged(there if isinstance(there, Mapping) else {}, value)
        else:
            new[key] = value
    return new


def _set(table: MutableMapping[str, object], settings: Mapping[str, object]) -> None:
    """Do what ``merged`` does, but in place, which keeps the comments of a parsed text."""
    for key, value in settings.items():
        there = table.get(key)
        if isinstance(value, Only):
            if value.wanted:
                table.setdefault(key, value.value)
            elif there == value.value:
                del table[key]
        elif isinstance(value, Mapping) and isinstance(there, MutableMapping):
            _set(there, value)
        elif isinstance(value, Mapping):
            table[key] = merged({}, value)
        elif there != value:
            table[key] = value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a key that occurs twice: one of the values would be lost."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _indent(text: str) -> int | str:
    """Return how the text is indented, by its first indented line."""
    for line in text.splitlines():
        blank = line[: len(line) - len(line.lstrip())]
        if blank and line.strip():
            return blank
    return 2
