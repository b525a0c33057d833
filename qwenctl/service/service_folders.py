"""Make the folders that a job of launchd needs before it is loaded, and give them to who will run it.

launchd opens the log as the user of the job. It may make a missing file, but whether it makes a missing
folder is disputed, so that it is made here, as Homebrew does (Library/Homebrew/services/cli.rb). A log that
belongs to root ends the job of another user before it begins: EX_CONFIG.
"""

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from qwenctl import paths
from qwenctl.control.state_dir import LAUNCHD_LOG
from qwenctl.errors import ControlError
from qwenctl.files import reason
from qwenctl.service.places import Places, owner, owner_id


def make(places: Places) -> None:
    """Make the folders of the state and of the logs, owned by the user of the job.

    Raises:
        ControlError: a folder cannot be made, or the log belongs to somebody else.
    """
    if os.geteuid() != 0:
        for folder in (places.state, places.logs):
            paths.private_dir(folder)
        log = places.logs / LAUNCHD_LOG
        if log.exists() and not os.access(log, os.W_OK):
            raise ControlError(
                f"cannot install: launchd could not open {log}, which is not yours",
                hint=f"sudo chown -R {owner()} '{places.logs}'",
            )
        return
    try:
        give((places.state, places.logs), owner_id(), Path.home().stat().st_gid)
    except OSError as error:
        raise ControlError(f"cannot make the folders of {owner()}: {reason(error)}") from error


def give_back() -> None:
    """Give what root has just made in the folders of the user behind sudo to that user.

    macOS' sudo keeps HOME, so that root works in the user's folders; they could not write there later.
    """
    if owner_id() == 0:
        return
    state = paths.state_dir()
    for folder in dict.fromkeys((paths.cache_dir(), paths.config_dir(), state, paths.log_dir(state))):
        with contextlib.suppress(OSError):  # no command fails because of this
            give((folder,) if folder.is_dir() else (), owner_id(), Path.home().stat().st_gid)


def give(folders: Iterable[Path], uid: int, gid: int) -> None:
    """Make folders with their parents, and give what is new, and what root has left there, to a user.

    A file with two names stays: one of them may be elsewhere. Nothing is followed out of the folder.

    Raises:
        OSError: a folder cannot be made.
    """
    for folder in folders:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in {*missing, folder}:
            if each.lstat().st_uid == 0 != uid:
                os.chown(each, uid, gid, follow_symlinks=False)
        for _, folders_here, files, number in os.fwalk(folder):
            for name in (*folders_here, *files):
                found = os.lstat(name, dir_fd=number)
                once = stat.S_ISDIR(found.st_mode) or found.st_nlink == 1
                if found.st_uid == 0 != uid and once:
                    os.chown(name, uid, gid, dir_fd=number, follow_symlinks=False)
