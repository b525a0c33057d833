"""Change a file that belongs to another program: a backup first, then as a whole, or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from qwenctl.errors import ClientError
from qwenctl.files import reason

NEW_MODE = 0o600
"""Such files may come to hold keys."""


class Changed(NamedTuple):
    """What became of a file. ``backup``: what it said before, if it was there and was changed."""

    path: Path
    changed: bool
    backup: Path | None = None


def update(path: Path, change: Callable[[str], str]) -> Changed:
    """Make the file say what ``change`` makes of its text. A link is followed; the mode stays.

    Raises:
        ClientError: it cannot be read, understood or written; nothing was changed.
    """
    path = path.resolve()
    try:
        old = path.read_bytes() if path.exists() else None
        text = (old or b"").decode()
        new = change(text)
        if new == text:
            return Changed(path, changed=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = NEW_MODE if old is None else path.stat().st_mode & 0o777
        backup = _replace(path, old, new.encode(), mode)
    except OSError as error:
        raise ClientError(f"cannot write {path}: {reason(error)}") from error
    except ValueError as error:
        raise ClientError(f"cannot change {path}: {error}") from error
    return Changed(path, changed=True, backup=backup)


def _replace(path: Path, old: bytes | None, new: bytes, mode: int) -> Path | None:
    """Write beside it first: a full disk then leaves no backup of what never changed."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _create(part, new, mode)
        backup = None if old is None else _back_up(path, old, mode)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return backup


def _back_up(path: Path, data: bytes, mode: int) -> Path:
    """Keep what it says beside it, under the first name that is free."""
    names = (f"{path.name}.bak", *(f"{path.name}.bak{number}" for number in range(1, 1000)))
    for name in names:
        with contextlib.suppress(FileExistsError):
            _create(path.with_name(name), data, mode)
            return path.with_name(name)
    raise FileExistsError(0, f"{len(names)} backups are there")


def _create(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
