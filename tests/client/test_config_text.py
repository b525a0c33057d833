"""Settings go into a text and nothing that was there goes out of it."""

import json
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.client.connect.advice import Only
from qwenctl.client.connect.config_text import into_json, into_toml, merged

SETTINGS = {
    "model": "demo",
    "providers": {"qwenctl": {"url": "http://x/v1", "key": Only("none", wanted=True)}},
}
MEANT = {"model": "demo", "providers": {"qwenctl": {"url": "http://x/v1", "key": "none"}}}
TOML = """\
# mine
model = "other" # the best

[providers.other] # keep
url = "http://other"   # two words

[tools]
on = true
"""


def test_toml_keeps_comments_order_and_other_tables() -> None:
    changed = into_toml(TOML, SETTINGS)
    assert tomllib.loads(changed) == merged(tomllib.loads(TOML), SETTINGS)
    for line in TOML.splitlines():
        assert line.replace('"other" #', '"demo" #') in changed.splitlines()


def test_json_keeps_order_indentation_and_words_of_every_language() -> None:
    old = '{\n    "zeta": "größer",\n    "providers": {"other": {"url": "x"}},\n    "model": "a"\n}\n'
    changed = into_json(old, SETTINGS)
    assert changed.startswith('{\n    "zeta": "größer",\n    "providers": {\n        "other"')
    assert json.loads(changed) == merged(json.loads(old), SETTINGS)
    assert into_json('{\n\t"a": 1\n}', SETTINGS).startswith('{\n\t"a": 1,\n\t"model"')


@pytest.mark.parametrize("into", [into_json, into_toml])
@pytest.mark.parametrize("old", ["", "\n"])
def test_an_empty_text_gets_the_settings_alone(into: Callable[[str, Any], str], old: str) -> None:
    parse = json.loads if into is into_json else tomllib.loads
    assert parse(into(old, SETTINGS)) == MEANT


@pytest.mark.parametrize(
    ("into", "old"), [(into_json, '{"model":"x","tools":{"on":true}}'), (into_toml, TOML)]
)
def test_a_second_time_changes_no_character(into: Callable[[str, Any], str], old: str) -> None:
    once = into(old, SETTINGS)
    assert into(once, SETTINGS) == once


def test_a_text_that_says_it_all_stays_as_it_was_written() -> None:
    old = '{"model":"demo",  "extra": [1,\n2]}'
    assert into_json(old, {"model": "demo"}) == old
    spaced = 'model   =   "demo"\r\n'
    assert into_toml(spaced, {"model": "demo"}) == spaced


@pytest.mark.parametrize(
    ("there", "wanted", "then"),
    [
        ({}, True, {"key": "none"}),
        ({"key": "none"}, True, {"key": "none"}),
        ({"key": "none"}, False, {}),
        ({"key": "mine"}, True, {"key": "mine"}),
        ({"key": "mine"}, False, {"key": "mine"}),
        ({}, False, {}),
    ],
)
def test_what_stands_only_for_a_while_never_replaces_what_a_person_put_there(
    there: dict[str, object],
    wanted: bool,  # noqa: FBT001 - a column of the table
    then: dict[str, object],
) -> None:
    settings = {"env": {"key": Only("none", wanted=wanted)}}
    assert merged({"env": there}, settings) == {"env": then}
    assert json.loads(into_json(json.dumps({"env": there}), settings)) == {"env": then}
    assert tomllib.loads(into_toml(tomlkit.dumps({"env": there}), settings)) == {"env": then}


@pytest.mark.parametrize(
    ("into", "old", "why"),
    [
        (into_json, '{"a": 1,}', "expecting|illegal"),
        (into_json, '{\n  // a comment\n  "a": 1\n}', "expecting"),
        (into_json, "[1]", "not a json object"),
        (into_json, '{"a": 1, "a": 2}', "twice"),
        (into_json, '{"providers": "x"}', "its providers is not a table"),
        (into_toml, "a = ", "unexpected|empty|end of file"),
        (into_toml, "a = 1\na = 2\n", "already exists"),
        (into_toml, "providers = 3\n", "its providers is not a table"),
        (into_toml, "providers.a.x = 1\nb = 2\n", "so that nothing can be added"),
        (into_toml, "[[providers]]\nx = 1\n", "its providers is not a table"),
    ],
)
def test_what_is_not_understood_is_refused(into: Callable[[str, Any], str], old: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"(?i){why}"):
        into(old, SETTINGS)


@pytest.mark.parametrize(
    "old",
    [
        "[providers.a]\nx = 1\n[tools]\ny = 2\n[providers.b]\nz = 3\n",
        'providers = { a = { x = 1 } } # inline\nb = "c"\n',
        "[providers]\n# empty\n[tools]\n",
        "[providers.qwenctl]\nurl = 'old' # why\n[providers.qwenctl.more]\nx = 1\n",
        "[tools]\nmodel = 'not the top one'\n",
    ],
)
def test_toml_of_every_style_keeps_its_values_and_comments(old: str) -> None:
    changed = into_toml(old, SETTINGS)
    assert tomllib.loads(changed) == merged(tomllib.loads(old), SETTINGS)
    comments = [line.partition("#")[2] for line in old.splitlines() if "#" in line]
    assert all(f"#{comment}" in changed for comment in comments)


NAMES = st.sampled_from(["model", "providers", "qwenctl", "url", "other"])
LEAVES = st.one_of(st.booleans(), st.integers(-9, 9), st.text('abc# "\n', max_size=5))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)


@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_any_text_is_either_refused_or_keeps_all_it_said(tree: Mapping[str, object]) -> None:
    for into, parse, old in (
        (into_json, json.loads, json.dumps(tree)),
        (into_toml, tomllib.loads, tomlkit.dumps(tree)),
    ):
        try:
            changed = into(old, SETTINGS)
        except ValueError:
            continue
        assert parse(changed) == merged(tree, SETTINGS)
