"""Remove what a service leaves behind in its state folder. Models, their records and settings stay."""

from pathlib import Path

from qwenctl.control.state_dir import LEFT_FILES, LEFT_FOLDERS, running
from qwenctl.service import installed_files


def remove_leftovers(state: Path) -> list[str]:
    """Remove a stopped daemon's files; return what was changed. Nothing while a daemon runs there.

    Raises:
        ControlError: a file cannot be removed.
    """
    if running(state) is not None:
        return []
    gone = [name for name in LEFT_FILES if installed_files.remove(state / name)]
    for folder in LEFT_FOLDERS:
        held = sorted(path for path in (state / folder).glob("*") if path.is_file())
        gone += [f"{folder}/{path.name}" for path in held if installed_files.remove(path)]
        if held or (state / folder).is_dir():
            (state / folder).rmdir()
    return [f"removed {', '.join(gone)} from {state}"] if gone else []
