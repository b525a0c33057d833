"""A file of another program is changed as a whole, with what it said before beside it, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.client.connect.config_file import Changed, update
from qwenctl.errors import ClientError


def loud(text: str) -> str:
    return text.upper()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_text_before_is_kept_beside_it_under_a_name_that_was_free(tmp_path: Path) -> None:
    path, taken = tmp_path / "c.toml", tmp_path / "c.toml.bak"
    path.write_text("one")
    taken.write_text("an earlier one")
    assert update(path, loud) == Changed(path, changed=True, backup=tmp_path / "c.toml.bak1")
    path.write_text("two")
    assert update(path, loud).backup == tmp_path / "c.toml.bak2"
    assert [(tmp_path / name).read_text() for name in sorted(names(tmp_path))] == [
        "TWO",
        "an earlier one",
        "one",
        "two",
    ]


def test_nothing_to_change_is_no_write_and_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("ONE")
    before = path.stat()
    assert update(path, loud) == Changed(path, changed=False)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names(tmp_path) == {"c.toml"}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_mode_stays_and_the_backup_has_it_too(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "c.toml"
    path.write_text("one")
    path.chmod(mode)
    backup = update(path, loud).backup
    assert backup is not None
    assert [each.stat().st_mode & 0o777 for each in (path, backup)] == [mode, mode]


def test_a_new_file_is_its_owners_alone_and_its_folder_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c.toml"
    assert update(path, lambda text: f"{text}new") == Changed(path, changed=True)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(path.parent) == {"c.toml"}


def test_a_link_stays_a_link_and_what_it_names_is_changed(tmp_path: Path) -> None:
    path, link = tmp_path / "dotfiles.toml", tmp_path / "c.toml"
    path.write_text("one")
    link.symlink_to(path)
    assert update(link, loud).path == path
    assert link.is_symlink()
    assert path.read_text() == "ONE"


def test_line_ends_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"one\r\ntwo\n")
    update(path, loud)
    assert path.read_bytes() == b"ONE\r\nTWO\n"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"broken"])
def test_what_is_not_understood_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)

    def refuse(text: str) -> str:
        raise ValueError(f"{text} is no TOML")

    with pytest.raises(ClientError, match=f"^cannot change {path}: "):
        update(path, refuse)
    assert path.read_bytes() == content
    assert names(tmp_path) == {"c.toml"}


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that we may read and not write, whoever runs the tests."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    path = folder / "c.toml"
    path.write_text("one")
    path.chmod(0o644)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield path
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()


def test_a_folder_that_cannot_be_written_is_one_line_and_leaves_the_file(locked: Path) -> None:
    with pytest.raises(ClientError, match=f"^cannot write {locked}: permission denied$"):
        update(locked, loud)
    assert locked.read_text() == "one"
    assert names(locked.parent) == {"c.toml"}


def test_a_file_in_place_of_its_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(ClientError, match=r"cannot write .*: (not a directory|file exists)"):
        update(tmp_path / "a/c.toml", lambda text: f"{text}new")
