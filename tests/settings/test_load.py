"""Layers of settings: who wins, where a value came from, and what a person hears when one is wrong."""

import json
import textwrap
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from qwenctl.errors import SettingsError
from qwenctl.settings.load import api_keys, known_keys, load, merge, nest, read_file, value_of
from qwenctl.settings.types import Settings


def port(value: int) -> dict[str, object]:
    return {"server": {"port": value}}


def test_the_strongest_layer_wins_and_is_named() -> None:
    assert load(profile=port(1)).settings.server.port == 1
    assert load(profile=port(1), file=port(2)).settings.server.port == 2
    assert load(profile=port(1), file=port(2), up=port(3)).settings.server.port == 3
    loaded = load(profile=port(1), file=port(2), up=port(3), flags=port(4))
    assert loaded.settings.server.port == 4
    assert loaded.origins["server.port"] == "flag"
    assert loaded.origins["server.host"] == "default"
    assert load(file=port(2)).origins["server.port"] == "file"


def test_nothing_given_is_the_defaults() -> None:
    loaded = load()
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert set(loaded.origins) == set(known_keys())


@pytest.mark.parametrize(
    ("layer", "message", "hint"),
    [
        (
            {"server": {"prot": 1}},
            "cannot use setting server.prot (config file): no such setting",
            "server.port",
        ),
        ({"sever": {"port": 1}}, "cannot use setting sever (config file): no such setting", None),
        ({"server": {"port": 0}}, "cannot use setting server.port (config file): input should be", None),
        ({"server": {"port": "x"}}, "cannot use setting server.port (config file): input should be a", None),
        (
            {"context": {"kv_type": "q3"}},
            "cannot use setting context.kv_type (config file): input should",
            None,
        ),
        (
            {"sampling": {"top_p": float("nan")}},
            "cannot use setting sampling.top_p (config file): input",
            None,
        ),
        ({"server": 3}, "cannot use setting server (config file): input should be", None),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_place(
    layer: dict[str, object], message: str, hint: str | None
) -> None:
    with pytest.raises(SettingsError) as raised:
        load(file=layer)
    assert raised.value.message.startswith(message)
    assert hint is None or hint in (raised.value.hint or "")


def test_a_missing_file_is_no_layer_unless_it_was_named(tmp_path: Path) -> None:
    assert read_file(tmp_path / "config.toml", required=False) == {}
    with pytest.raises(SettingsError, match="no such file"):
        read_file(tmp_path / "config.toml", required=True)


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", b"[server]\n[server]\n"])
def test_a_file_that_is_no_toml_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="cannot read settings"):
        read_file(path, required=True)


def test_the_documented_example_says_exactly_the_defaults() -> None:
    example = Path(__file__).parents[2] / "docs" / "config.toml"
    tables = read_file(example, required=True)
    assert load(file=tables).settings == Settings()
    text = example.read_text(encoding="utf-8")
    missing = [key for key in known_keys() if f"{key.rpartition('.')[2]} = " not in text]
    assert not missing


HEADER = """\
# Every setting of qwenctl with its default. Copy the lines that you change into config.toml in the config
# folder (Linux: ~/.config/qwenctl, macOS: ~/Library/Application Support/qwenctl). A setting without a default
# is commented out.
"""


def documented() -> str:
    """Return what docs/config.toml must hold: each key's description, allowed values and default."""
    lines, table = [HEADER], ""
    for key in known_keys():
        section, _, name = key.rpartition(".")
        model: type[BaseModel] = type(value_of(Settings(), section)) if section else Settings  # type: ignore[assignment]
        if section != table:
            table = section
            lines.append(f"\n[{section}]")
        field = model.model_fields[name]
        assert field.description is not None, key
        lines += [f"# {line}" for line in textwrap.wrap(field.description, 108)]
        if get_origin(field.annotation) is Literal:
            lines.append(f"# one of {', '.join(json.dumps(value) for value in get_args(field.annotation))}")
        default = value_of(Settings(), key)
        lines.append(f"# {name} = unset" if default is None else f"{name} = {json.dumps(default)}")
    return "\n".join(lines) + "\n"


def test_the_documented_example_has_the_description_and_the_allowed_values_of_every_key() -> None:
    example = Path(__file__).parents[2] / "docs" / "config.toml"
    assert example.read_text(encoding="utf-8") == documented()


def test_dotted_keys_nest_and_merge() -> None:
    assert nest("a.b.c", 1) == {"a": {"b": {"c": 1}}}
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert value_of(Settings(), "server.port") == 8080


@pytest.mark.parametrize(
    ("said", "keys"),
    [("one", ("one",)), ("one,two", ("one", "two")), (" one ,\n two\tthree,", ("one", "two", "three"))],
)
def test_keys_of_the_environment_stand_between_commas_or_blanks(said: str, keys: tuple[str, ...]) -> None:
    assert api_keys({"QWENCTL_API_KEY": said}) == keys
    assert api_keys({}) == ()


def test_an_empty_key_variable_is_refused_rather_than_taken_for_none() -> None:
    with pytest.raises(
        SettingsError, match="cannot use environment variable QWENCTL_API_KEY: it holds no key"
    ):
        api_keys({"QWENCTL_API_KEY": " , "})
