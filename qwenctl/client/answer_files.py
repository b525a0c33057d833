"""Read the files in an answer: fenced code blocks, named in the fence or the first line. Pure: no I/O."""

import re
from collections.abc import Container
from pathlib import PurePosixPath

from qwenctl.client.markdown import Block, code_blocks

DEFAULT = "solution.py"
MAX_FILES = 50
NAME_CHARACTERS = r"[\w./-]+\.\w+"
FIRST_LINE = re.compile(
    rf"(?:#|//|--|/\*|<!--)\s*(?:file(?:name)?:\s*)?`?({NAME_CHARACTERS})`?\s*(?:\*/|-->)?\s*"
)
IN_FENCE = re.compile(rf"(?:^|[\s:=\"'{{])({NAME_CHARACTERS})[\"'}}]?$")


class FilesError(Exception):
    """An answer has no usable files. The message says why; the model reads it."""


def files_of(answer: str, reserved: Container[str] = ()) -> dict[str, str]:
    """Return the files by their relative names.

    If no block has a name, the longest one is ``solution.py``. Files with a ``reserved`` name are left out.

    Raises:
        FilesError: there is no file, or a name lies outside the folder.
    """
    files: dict[str, str] = {}
    unnamed: list[Block] = []
    for block in code_blocks(answer)[:MAX_FILES]:
        name = name_of(block)
        if name is None:
            unnamed.append(block)
        elif not _inside(name):
            raise FilesError(f"file {name} lies outside the folder")
        elif name not in reserved:  # a model that repeats the tests may not change them
            files[name] = block.code
    python = [block for block in unnamed if block.language in ("python", "py", "python3", "")]
    if not files and python:
        files[DEFAULT] = max(python, key=lambda block: len(block.code)).code
    if not files:
        raise FilesError("it has no fenced code block")
    return files


def name_of(block: Block) -> str | None:
    """Return the file name that a block gives, or None."""
    first = FIRST_LINE.fullmatch(block.code.partition("\n")[0])
    if first:
        return _plain(first.group(1))
    fence = IN_FENCE.search(block.info)
    return _plain(fence.group(1)) if fence else None


def _plain(name: str) -> str:
    return name.removeprefix("./")


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
