"""Whose the folders of a job are, and what is said of workers on other machines."""

import os
from pathlib import Path

import pytest

from qwenctl.service.local_network import notes_of_rpc
from qwenctl.service.service_folders import give


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_has_made_is_given_to_the_user_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("of root")
    folder = tmp_path / "Library/Caches/qwenctl"
    (folder / "help").mkdir(parents=True)
    (folder / "help/text").write_text("of root, in a folder of the user")
    (folder / "link").symlink_to(outside)
    (folder / "second-name").hardlink_to(outside)
    (folder / "other").write_text("of another user")
    os.chown(folder / "other", 77, 77)
    new = tmp_path / "Library/Logs/qwenctl"
    give((folder, new), 501, 20)
    for mine in (folder, folder / "help", folder / "help/text", new, new.parent):
        assert (mine.stat().st_uid, mine.stat().st_gid) == (501, 20), mine
    assert outside.stat().st_uid == 0
    assert (folder / "other").stat().st_uid == 77
    assert new.stat().st_mode & 0o777 == 0o700


def test_workers_of_the_network_are_named_and_those_of_this_machine_are_not() -> None:
    assert notes_of_rpc(("127.0.0.1:50052", "localhost:50052", "[::1]:50052")) == ()
    (note,) = notes_of_rpc(("127.0.0.1:50052", "192.168.1.7:50052", "studio.local:50052"))
    assert "192.168.1.7:50052, studio.local:50052" in note
    assert "No route to host" in note
