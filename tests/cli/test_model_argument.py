"""The name of a model on the command line: what it sets, and what it takes back."""

import json
from pathlib import Path

import pytest

from tests.fakes.home import Home
from tests.fakes.machines import PROFILES


def keep(home: Home, **model: str) -> None:
    """Keep what an earlier up said of the model."""
    home.state.mkdir(parents=True, exist_ok=True)
    (home.state / "overrides.json").write_text(json.dumps({"model": model}))


def planned(home: Home, *arguments: str) -> str:
    told = home.json("plan", *arguments, "--hardware", str(PROFILES.parent / "tests/machines/cpu-24gb.json"))
    assert told["ok"], told
    return f"{told['data']['profile']} {told['data']['quant']}"


def test_a_profile_is_named_alone_in_any_case(bare_home: Home) -> None:
    assert planned(bare_home, "qwen3.5-2b") == planned(bare_home, "--profile", "qwen3.5-2b")
    assert planned(bare_home, "QWEN3.5-2B", "--quant", "q4km") == "qwen3.5-2b Q4_K_M"


@pytest.mark.parametrize("words", [("qwen3.5-2b",), ("--profile", "qwen3.5-2b")])
def test_a_profile_takes_back_the_file_of_an_earlier_up(bare_home: Home, words: tuple[str, ...]) -> None:
    keep(bare_home, path="/nowhere/x.gguf", quant="Q9")
    assert planned(bare_home, *words).startswith("qwen3.5-2b ")


def test_a_profile_keeps_the_quant_that_an_earlier_up_named(bare_home: Home) -> None:
    keep(bare_home, quant="Q6_K")
    assert planned(bare_home, "--profile", "qwen3.5-2b") == "qwen3.5-2b Q6_K"
    assert planned(bare_home, "qwen3.5-2b") == planned(bare_home, "qwen3.5-2b", "--quant", "auto")


def test_a_file_takes_back_what_the_config_file_says_of_repositories(bare_home: Home) -> None:
    config = bare_home.path / ".config/qwenctl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[model]\nrepo = "someone/Else-GGUF"\nfile = "x.gguf"\n')
    ran = bare_home.run("plan", "./here.gguf")
    assert (ran.code, ran.err.splitlines()[0]) == (
        6,
        f"cannot read {bare_home.path}/here.gguf: no such file or directory",
    )


def test_quants_of_the_settings_may_be_spelt_freely(bare_home: Home) -> None:
    assert bare_home.run("plan", "qwen3.5-2b", "--quant", "q4-k-m").code == 0
    ran = bare_home.run("plan", "qwen3.5-2b", QWENCTL_MODEL__QUANT="Q4KX")
    assert ran.code == 2
    assert "did you mean" in ran.err


def test_a_profile_of_ones_own_that_is_unreadable_breaks_no_other(bare_home: Home) -> None:
    own = bare_home.path / ".config/qwenctl/profiles"
    own.mkdir(parents=True)
    (own / "broken.toml").write_text("no toml")
    assert planned(bare_home, "qwen3.5-2b")
    small = Path("tests/machines/m1-8gb.json")
    told = bare_home.json("plan", "qwen3.6-27b", "--hardware", str(PROFILES.parent / small))
    assert told["error"]["code"] == "no_fit", "siblings are looked through"
    listed = {each["name"]: each for each in bare_home.json("profiles")["data"]}
    assert listed["broken"]["fault"].startswith("cannot read profile")
    assert listed["demo"]["fault"] is None
    assert "unusable: cannot read profile" in bare_home.run("profiles").out
    ran = bare_home.run("plan", "broken")
    assert (ran.code, ran.err.splitlines()[0].startswith("cannot read profile")) == (2, True)


@pytest.mark.parametrize("command", ["bench", "check"])
def test_a_model_of_another_server_cannot_be_named(bare_home: Home, command: str) -> None:
    ran = bare_home.run(command, "demo", "--url", "http://127.0.0.1:1")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        "cannot use model demo with --url: that server has its own",
    )


def test_fetch_checks_a_file_of_this_machine(bare_home: Home) -> None:
    (bare_home.path / "x.gguf").write_text("no model")
    ran = bare_home.run("fetch", "x.gguf")
    assert ran.code == 6
    assert ran.err.startswith(f"cannot use {bare_home.path}/x.gguf: no valid GGUF header")


def test_settings_are_shown_also_when_the_models_file_is_gone(bare_home: Home) -> None:
    ran = bare_home.run("settings", QWENCTL_MODEL__PATH="gone.gguf")
    assert ran.code == 0
    assert ran.err == f"warning: cannot read {bare_home.path}/gone.gguf: no such file or directory\n"
    assert f'"{bare_home.path}/gone.gguf"' in ran.out


def test_a_profile_may_be_a_file_and_its_paths_count_from_its_folder(bare_home: Home) -> None:
    """A profile is named by its file, from any folder; a path in its settings is beside it."""
    folder = bare_home.path / "mine"
    folder.mkdir()
    shipped = (PROFILES / "demo.toml").read_text(encoding="utf-8")
    (folder / "my-demo.toml").write_text(
        shipped.replace('name = "demo"', 'name = "my-demo"') + '\n[settings.server]\napi_key_file = "keys"\n',
        encoding="utf-8",
    )
    for words in (("mine/my-demo.toml",), ("--profile", "mine/my-demo.toml")):
        told = bare_home.json("plan", *words)
        assert told["data"]["profile"] == "my-demo", told
    shown = bare_home.json("settings", "--profile", "./mine/my-demo.toml")["data"]
    assert str(folder / "keys") in json.dumps(shown)
    told = bare_home.json("plan", QWENCTL_PROFILE="mine/my-demo.toml")
    assert told["data"]["profile"] == "my-demo"
    missing = bare_home.run("plan", "mine/other.toml")
    assert (missing.code, missing.out) == (2, "")
    assert missing.err.startswith(f"cannot read profile {folder}/other.toml: ")
