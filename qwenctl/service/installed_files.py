"""Write and remove the files of a service, and say what was changed. Knows no service manager."""

import contextlib
from pathlib import Path

from qwenctl.control.state_dir import LEFT_FILES, LEFT_FOLDERS, LOGS, OLD_LOGS, running
from qwenctl.errors import ControlError
from qwenctl.files import reason, replace_text
from qwenctl.paths import log_dir


def write(path: Path, text: str) -> list[str]:
    """Make ``path`` hold ``text``; return the changes.

    Raises:
        ControlError: the file cannot be written.
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
    """Remove a file if it exists; return the changes.

    Raises:
        ControlError: the file cannot be removed.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("remove", path, error) from error
    return [f"removed {path}"]


def remove_leftovers(state: Path) -> list[str]:
    """Remove the files that a stopped daemon left in its state folder, and its logs; return the changes.

    Models, their records and settings stay. Nothing is removed while a daemon runs there.

    Raises:
        ControlError: a file cannot be removed.
    """
    if running(state) is not None:
        return []
    gone = [name for name in LEFT_FILES if remove(state / name)]
    for folder in LEFT_FOLDERS:
        held = sorted(path for path in (state / folder).glob("*") if path.is_file())
        gone += [f"{folder}/{path.name}" for path in held if remove(path)]
        if held or (state / folder).is_dir():
            (state / folder).rmdir()
    changes = [f"removed {', '.join(gone)} from {state}"] if gone else []
    logs = log_dir(state)
    if logs != state and (dropped := [name for name in (*LOGS, *OLD_LOGS) if remove(logs / name)]):
        changes.append(f"removed {', '.join(dropped)} from {logs}")
        with contextlib.suppress(OSError):  # a person has put something there
            logs.rmdir()
    return changes


def current(path: Path) -> str | None:
    """Return the text of a file, or None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def cannot(verb: str, path: Path, error: OSError) -> ControlError:
    """Return the error for a failed file operation."""
    hint = "only root can change the system service: use sudo" if isinstance(error, PermissionError) else None
    return ControlError(f"cannot {verb} {path}: {reason(error)}", hint=hint)
