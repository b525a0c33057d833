"""Replace a file as a whole, read JSON, and put an ``OSError`` into words: once, for everybody."""

import contextlib
import json
import os
import secrets
from pathlib import Path


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Return why a file operation failed, in a few lower-case words."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8 text"
    return (error.strerror or str(error)).lower()


def replace_bytes(path: Path, content: bytes, *, mode: int | None = None, sync: bool = False) -> None:
    """Make ``path`` hold ``content``: a reader sees the whole old file or the whole new one.

    The new file is written beside the old one and renamed. ``mode`` is the new file's permission; without it
    the umask decides. With ``sync`` the content is on the disk before the name changes.

    Raises:
        OSError: the disk is full, or the folder is gone or closed to us; the old file is unchanged.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")  # threads write, too
    try:
        with part.open("wb") as file:
            file.write(content)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def replace_text(path: Path, text: str, *, mode: int | None = None, sync: bool = False) -> None:
    """Make ``path`` hold ``text`` in UTF-8, as ``replace_bytes`` does.

    Raises:
        OSError: as ``replace_bytes``.
    """
    replace_bytes(path, text.encode("utf-8", "surrogateescape"), mode=mode, sync=sync)


def write_json(path: Path, value: object) -> None:
    """Make ``path`` hold ``value`` as JSON, as ``replace_bytes`` does.

    Raises:
        OSError: as ``replace_bytes``.
    """
    replace_text(path, json.dumps(value))


def read_json(path: Path) -> dict[str, object] | None:
    """Return the JSON table in ``path``, or None if there is no readable one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
