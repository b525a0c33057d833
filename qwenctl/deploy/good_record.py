"""Keep the last good configuration on the disk, so that a rollback outlives a restart of the daemon."""

import os
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from qwenctl.control.state_dir import GOOD
from qwenctl.files import replace_bytes
from qwenctl.launch.configuration import Configuration


@cache
def _adapter() -> TypeAdapter[Configuration]:
    return TypeAdapter(Configuration)


def write_good(folder: Path, good: Configuration | None) -> None:
    """Keep ``good``, or nothing.

    Raises:
        OSError: it cannot be written.
    """
    if good is None:
        (folder / GOOD).unlink(missing_ok=True)
    else:
        replace_bytes(folder / GOOD, _adapter().dump_json(good, by_alias=True), mode=0o600)


def read_good(folder: Path) -> Configuration | None:
    """Return what was kept, if it could still be started: its engine and its model file are there.

    A record of another version of qwenctl, or a damaged one, is no record.
    """
    try:
        good = _adapter().validate_json((folder / GOOD).read_bytes())
    except (OSError, ValueError):
        return None
    here = good.model_file.is_file() and os.access(good.engine.path, os.X_OK)
    return good if here else None
