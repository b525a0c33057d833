"""Read what lies on a disk: the files of a folder, within bounds, and the facts of one file.

Names come from other programs and from people, so nothing here trusts them. No link to a folder is followed.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.files import reason
from qwenctl.model.from_gguf import FILE_TYPES, GUESSED
from qwenctl.model.gguf_header import read_first_keys
from qwenctl.model.library import Facts, FileOnDisk

ENTRIES, DEPTH = 50_000, 8
"""What is read of one folder. A cache of a hundred models has some thousand entries, four folders deep."""
TABLE_BYTES = 2**20
"""The longest table of another program that is read. Ollama's manifests have a few KiB."""


@dataclass(frozen=True, slots=True)
class Walked:
    """The files of a folder, sorted, and what could not be read of it."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def walk(root: Path, entries: int = ENTRIES, depth: int = DEPTH) -> Walked:
    """Return the files in a folder and its folders, symbolic links to files among them.

    A folder that is not there has no files. One that cannot be read is skipped, with a note.
    """
    files: list[Path] = []
    notes: list[str] = []
    waiting = [(root, 0)]
    seen = 0
    while waiting:
        folder, level = waiting.pop()
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    seen += 1
                    if seen > entries:
                        notes.append(f"{root} has more than {entries} entries; the rest is not looked at")
                        return Walked(tuple(sorted(files)), tuple(notes))
                    if not entry.name.isprintable():
                        continue  # no name that could be shown, or typed
                    if entry.is_dir(follow_symlinks=False):
                        if level < depth:
                            waiting.append((Path(entry.path), level + 1))
                    elif _is_file(entry):
                        files.append(Path(entry.path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            notes.append(f"cannot read {folder}: {reason(error)}")
    return Walked(tuple(sorted(files)), tuple(notes))


def look_at(path: Path) -> FileOnDisk | None:
    """Return where a file's bytes are and what they take; None if it is no file, or its link is dead."""
    try:
        real = path.resolve(strict=True)
        found = real.stat()
    except (OSError, RuntimeError):
        return None
    if not real.is_file():
        return None
    return FileOnDisk(
        path=path,
        real=real,
        bytes=found.st_size,
        allocated_bytes=found.st_blocks * 512,
        inode=(found.st_dev, found.st_ino),
        links=found.st_nlink,
        used_at=max(found.st_atime, found.st_mtime),
        is_link=path.is_symlink(),
    )


def facts_of(path: Path) -> Facts | None:
    """Return what the first keys of a GGUF file say, None if it is no GGUF."""
    try:
        with path.open("rb") as file:
            keys = read_first_keys(file.read)
    except (OSError, FetchError):
        return None
    architecture, kind = keys.get("general.architecture"), keys.get("general.type")
    number = keys.get("general.file_type")
    return Facts(
        architecture if isinstance(architecture, str) else None,
        kind if isinstance(kind, str) else None,
        FILE_TYPES.get(number % GUESSED) if isinstance(number, int) else None,
    )


def read_small(path: Path) -> bytes:
    """Return a small file of another program; empty if it cannot be read, or is too long to be one."""
    try:
        with path.open("rb") as file:
            content = file.read(TABLE_BYTES + 1)
    except OSError:
        return b""
    return content if len(content) <= TABLE_BYTES else b""


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file or a link to one."""
    try:
        return entry.is_file()
    except OSError:
        return False
