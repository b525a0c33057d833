"""What a daemon leaves in its state folder, and what an uninstall removes of it."""

import ast
from pathlib import Path

import pytest

from qwenctl.control import state_dir
from qwenctl.service.installed_files import remove_leftovers
from tests.fakes.home import Home

PACKAGE = Path(state_dir.__file__).parents[1]
NAMES = {name for name in (*state_dir.LEFT_FILES, *state_dir.KEPT_FILES) if "." in name}
NAMED_ELSEWHERE = {
    ("deploy/oom_record.py", "refused.json"): "the writer of the file names it",
    ("fetch/artifact_record.py", "artifacts.json"): "the writer of the file names it",
}


def test_an_uninstall_removes_all_that_a_daemon_leaves_and_keeps_the_rest(tmp_path: Path) -> None:
    for name in (*state_dir.LEFT_FILES, *state_dir.KEPT_FILES):
        (tmp_path / name).write_text("{}")
    for folder in state_dir.LEFT_FOLDERS:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "slot").write_text("what a person wrote")
    (change,) = remove_leftovers(tmp_path)
    assert all(name in change for name in state_dir.LEFT_FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(state_dir.KEPT_FILES)
    assert remove_leftovers(tmp_path) == []


@pytest.mark.server
def test_a_real_daemon_leaves_only_files_that_have_a_name(home: Home) -> None:
    home.up()
    assert home.run("down").code == 0
    left = {path.name for path in home.state.iterdir()}
    assert state_dir.CHILD_SOCKET in left
    assert left <= {*state_dir.LEFT_FILES, *state_dir.LEFT_FOLDERS, *state_dir.KEPT_FILES}
    remove_leftovers(home.state)
    assert {path.name for path in home.state.iterdir()} <= set(state_dir.KEPT_FILES)


def test_the_names_in_the_state_folder_are_written_in_one_place() -> None:
    written = {
        (str(path.relative_to(PACKAGE)), node.value)
        for path in PACKAGE.rglob("*.py")
        if path != Path(state_dir.__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in NAMES
    }
    assert written <= set(NAMED_ELSEWHERE)
