"""Write to a disk: free space, writes at a position, syncing. Every failure becomes one clear error."""

import errno
import os
import shutil
import threading
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.files import reason

MARGIN_BYTES = 512 * 2**20
"""Left free beside the file, so that the download isn't what fills the disk."""


MODELS = "HF_HOME"
"""The variable that moves the folder of models; other downloads name their own."""


def cannot(verb: str, path: Path, error: OSError, setting: str = MODELS) -> FetchError:
    """Return the error for a failed file operation. ``setting`` is the variable that moves the folder."""
    hint = None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = (
            f"free some space, or set {setting} to a folder on a larger disk; the bytes that arrived are kept"
        )
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = f"set {setting} to a folder you may write"
    return FetchError(f"cannot {verb} {path}: {reason(error)}", hint=hint)


def free_bytes(path: Path) -> int:
    """Return the space that an ordinary user may still use on the disk of ``path``."""
    for folder in (path, *path.parents):
        try:
            return shutil.disk_usage(folder).free
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise cannot("look at", folder, error) from error
    return 0


def allocated_bytes(path: Path) -> int:
    """Return the space that a (sparse) file takes on its disk; 0 if there is no file."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise cannot("look at", path, error) from error


def check_space(folder: Path, needed_bytes: int, margin_bytes: int, setting: str = MODELS) -> None:
    """Make sure that ``needed_bytes`` more fit into ``folder`` before the first of them is asked for.

    Raises:
        FetchError: they don't, with both numbers.
    """
    if needed_bytes <= 0:
        return
    free = free_bytes(folder)
    if needed_bytes + margin_bytes > free:
        raise FetchError(
            f"cannot download to {folder}: {needed_bytes} more bytes and {margin_bytes} of margin are needed,"
            f" {free} are free",
            hint="free some space (qwenctl fetch --prune lists leftovers), "
            f"or set {setting} to a folder on a larger disk",
        )


class PartialFile:
    """A file that is filled at many places. Sparse until it is full; its size is right from the start."""

    def __init__(self, path: Path, size: int, setting: str = MODELS) -> None:
        self.path = path
        self.setting = setting
        self._closing = threading.Lock()
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise cannot("write", path, error, setting) from error
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            os.close(self.fd)
            raise cannot("write", path, error, setting) from error

    def write(self, offset: int, data: memoryview) -> None:
        """Write into the page cache."""
        try:
            while data:
                written = os.pwrite(self.fd, data, offset)
                offset += written
                data = data[written:]
        except OSError as error:
            raise cannot("write", self.path, error, self.setting) from error

    def sync(self) -> None:
        """Return when every byte written so far is on the disk. Blocks; call it in a thread.

        It works on a duplicate of the descriptor, so that ``close`` need not wait for a slow disk.
        """
        try:
            with self._closing:
                fd = os.dup(self.fd)
            try:
                _sync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise cannot("write", self.path, error, self.setting) from error

    def close(self) -> None:
        """Close the file. A sync under way goes on."""
        with self._closing:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1


_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
