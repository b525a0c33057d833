"""A relative path means the file beside what it was written in, whatever folder it is read from later."""

import os
from pathlib import Path

import pytest

from qwenctl.errors import SettingsError
from qwenctl.settings.load import absolute_environment, load, read_file
from qwenctl.settings.local_paths import absolute_layer, absolute_path
from tests.fakes.home import Home

TEXT = '[model]\npath = "m.gguf"\n[server]\nbinary = "bin/llama-server"\napi_key_file = "keys"\n'


def test_the_config_files_own_folder_counts(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(TEXT)
    settings = load(file=read_file(tmp_path / "config.toml", required=True)).settings
    assert settings.model.path == str(tmp_path / "m.gguf")
    assert settings.server.binary == str(tmp_path / "bin/llama-server")
    assert settings.server.api_key_file == str(tmp_path / "keys")


def test_a_relative_path_of_the_config_file_itself_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(TEXT)
    relative = Path(os.path.relpath(tmp_path / "config.toml"))
    path = load(file=read_file(relative, required=True)).settings.model.path
    assert path is not None
    assert Path(path).is_absolute()
    assert Path(path).resolve() == tmp_path.resolve() / "m.gguf"


@pytest.mark.parametrize(("text", "folder"), [("x", "/a"), ("./x", "/a"), ("/b/x", "/b"), ("../x", "/a/..")])
def test_a_path_is_joined_to_its_folder(text: str, folder: str) -> None:
    assert absolute_path("model.path", text, Path("/a")) == f"{folder}/x"


def test_home_is_found_and_words_that_are_no_paths_stay() -> None:
    assert absolute_path("model.path", "~/x") == str(Path.home() / "x")
    assert absolute_path("model.path", "~nobody-here/x") == "~nobody-here/x"
    assert absolute_path("server.binary", "auto") == "auto"
    assert absolute_layer({"model": {"path": None}, "server": 3}, None) == {
        "model": {"path": None},
        "server": 3,
    }


def test_a_flag_counts_from_the_working_folder_and_an_earlier_up_stays() -> None:
    assert load(flags={"model": {"path": "x"}}).settings.model.path == str(Path.cwd() / "x")
    assert load(up={"model": {"path": "/x"}}).settings.model.path == "/x"


def test_none_takes_back_what_a_weaker_layer_says_where_none_is_a_value() -> None:
    file = {"profile": "demo", "model": {"path": "/x", "quant": "Q4_0"}}
    given = {"profile": None, "model": {"path": None, "quant": None}}
    loaded = load(flags=given, file=file)
    assert (loaded.settings.model.path, loaded.origins["model.path"]) == (None, "flag")
    assert (loaded.settings.model.quant, loaded.origins["model.quant"]) == ("Q4_0", "file")
    assert (loaded.settings.profile, loaded.origins["profile"]) == ("demo", "file")


def test_a_working_folder_that_is_gone_is_one_line(bare_home: Home) -> None:
    gone = bare_home.path / "gone"
    command = f"mkdir {gone}; cd {gone}; rmdir {gone}; exec {{python}} -m qwenctl settings"
    ran = bare_home.shell(command, QWENCTL_MODEL__PATH="m.gguf")
    assert ran.code == 2
    assert ran.err.startswith("cannot use setting model.path: 'm.gguf' is relative to the working folder")


def test_the_environment_counts_from_the_working_folder_also_for_the_daemon(
    bare_home: Home, tmp_path: Path
) -> None:
    shown = bare_home.json("settings", QWENCTL_SERVER__API_KEY_FILE="keys")["data"]
    assert shown["server.api_key_file"]["value"] == str(bare_home.path / "keys")
    code = "from qwenctl.settings.load import absolute_environment as a; print(a()['QWENCTL_MODEL__PATH'])"
    ran = bare_home.shell(f'cd {tmp_path}; exec {{python}} -c "{code}"', QWENCTL_MODEL__PATH="m.gguf")
    assert ran.out.strip() == str(tmp_path / "m.gguf")


def test_an_environment_without_paths_is_passed_on_as_it_is() -> None:
    assert absolute_environment() == dict(os.environ)


def test_settings_error_is_raised_for_a_user_who_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="no home folder"):
        load(flags={"model": {"path": "~nobody-here/x"}})
