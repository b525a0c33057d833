"""Where things of a Mac are on this disk, and what of Linux a Mac does not have."""

import errno
import os
from typing import Any

MOVED = ("/Library", "/System", "/Applications", "/opt/homebrew", "/usr/local/bin")
"""Folders of a Mac that lie in the Mac's own folder here."""
HIDDEN = ("/proc", "/sys", "/run", "/etc/systemd", "/lib/systemd", "/dev/shm", "/dev/dri", "/dev/kfd")
HIDDEN_BEGINNINGS = ("/dev/nvidia",)
"""What a Mac does not have."""
SANDBOX_EXEC = "/usr/bin/sandbox-exec"
SYSTEM_PATH = ("/bin", "/usr/bin", "/usr/sbin", "/sbin")


class MacPaths:
    """The folders of the Mac in ``root``."""

    def __init__(self, root: str) -> None:
        self._root, self._tools = f"{root}/root", f"{root}/tools"
        self._names = frozenset(os.listdir(self._tools))  # noqa: PTH208  before this module is wrapped

    def there(self, path: Any) -> Any:  # noqa: ANN401  text, bytes, a number, or anything with a path
        """Return where ``path`` is on this disk.

        Raises:
            FileNotFoundError: a Mac has nothing like it.
        """
        if isinstance(path, int) or path is None:
            return path
        text = os.fspath(path)
        text = os.fsdecode(text) if isinstance(text, bytes) else text
        if not text.startswith("/"):
            return path
        if _within(text, HIDDEN) or text.startswith(HIDDEN_BEGINNINGS):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
        if _within(text, MOVED) and self._is_moved(text):
            return self._root + text
        return path

    def program(self, name: str, search: str) -> str:
        """Return the file that runs if ``name`` is started with this PATH."""
        base = name.rpartition("/")[2]
        if "/" not in name:
            found = (f"{folder}/{name}" for folder in search.split(":"))
            known = next((one for one in found if os.access(one, os.X_OK)), None)
            system = any(folder in SYSTEM_PATH for folder in search.split(":"))
            return (
                f"{self._tools}/{name}" if name in self._names and system else str(self.there(known or name))
            )
        if base in self._names and name.rpartition("/")[0] in SYSTEM_PATH:
            return f"{self._tools}/{base}"
        return str(self.there(name))

    def named(self, argument: str) -> str:
        """Return an argument in which a program of ours is told to run sandbox-exec.

        The jail of ``solve`` is a Python without site packages, so that it does not know where it is.
        """
        return argument.replace(f'"{SANDBOX_EXEC}"', f'"{self._tools}/sandbox-exec"')

    def _is_moved(self, text: str) -> bool:
        return not text.startswith("/usr/local/bin") or os.path.lexists(self._root + text)


def _within(text: str, folders: tuple[str, ...]) -> bool:
    return any(text == folder or text.startswith(f"{folder}/") for folder in folders)
