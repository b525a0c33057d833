"""Change another program's settings file: make a backup, then replace the file, or change nothing."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from qwenctl.errors import ClientError
from qwenctl.files import reason

NEW_MODE = 0o600
"""Such a file may hold keys later."""


class Changed(NamedTuple):
    """The result. ``backup`` is a copy of the old file, if there was one and it was changed."""

    path: Path
    changed: bool
    backup: Path | None = None


def update(path: Path, change: Callable[[str], str]) -> Changed:
    """Replace the file's text by ``change(text)``. A link is followed; the file's mode stays.

    Raises:
        ClientError: the file cannot be read, understood or written; nothing was changed.
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
    """Write the new file first: on a full disk there is then no needless backup."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _create(part, new, mode)
        backup = None if old is None else _back_up(path, old, mode)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return backup


def _back_up(path: Path, data: bytes, mode: int) -> Path:
    """Save the old content beside the file, under the first free name."""
    names = (f"{path.name}.bak", *(f"{path.name}.bak{number}" for number in range(1, 1000)))
    for name in names:
        with contextlib.suppress(FileExistsError):
            _create(path.with_name(name), data, mode)
            return path.with_name(name)
    raise FileExistsError(0, f"there are already {len(names)} backups")


def _create(path: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
