"""Put files into place only where they differ, and say what was changed. Knows no service manager."""

from pathlib import Path

from qwenctl.errors import ControlError
from qwenctl.files import reason, replace_text


def write(path: Path, text: str) -> list[str]:
    """Make ``path`` hold ``text``; return what was changed.

    Raises:
        ControlError: it cannot be written.
    """
    if current(path) == text:
        return []
    word = "replaced" if path.exists() else "wrote"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text, mode=0o644)
    except OSError as error:
        raise cannot("write", path, error) from error
    return [f"{word} {path}"]


def remove(path: Path) -> list[str]:
    """Remove a file if it is there; return what was changed.

    Raises:
        ControlError: it cannot be removed.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("remove", path, error) from error
    return [f"removed {path}"]


def current(path: Path) -> str | None:
    """Return what a file holds, or None if there is none that can be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def cannot(verb: str, path: Path, error: OSError) -> ControlError:
    """Return the error for a failed file operation."""
    hint = (
        "a service of the whole machine is installed by root: sudo"
        if isinstance(error, PermissionError)
        else None
    )
    return ControlError(f"cannot {verb} {path}: {reason(error)}", hint=hint)
