"""Choose the files of a quant among the files of a repository. Pure: no I/O."""

import difflib
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from qwenctl.errors import FetchError
from qwenctl.fetch.request import FetchRequest, RemoteFile
from qwenctl.model.gguf_name import shards


def pick(listing: tuple[RemoteFile, ...], request: FetchRequest) -> tuple[RemoteFile, ...]:
    """Return the files of the request, parts of a split file in their order.

    1. The exact names, each with the other parts of its split file. 2. The pattern, if a name is gone: it
    must match one file, or the parts of one. A pattern never matches projectors (``mmproj``).

    Raises:
        FetchError: nothing matches, several things do, or a file is not the one the profile pins.
    """
    listed = {file.name: file for file in listing}
    names = _with_parts(request.names)
    if not names or not all(name in listed for name in names):
        names = _by_pattern(listed, request)
    files = tuple(listed[name] for name in names)
    for wanted in request.files:
        file = listed.get(wanted.name)
        if file is not None and file in files:
            _check_pin(file, wanted.bytes, wanted.sha256, request.repo)
    return files


def _with_parts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names with every part of the split files among them, without repetition."""
    parts = [
        str(PurePosixPath(name).with_name(part))
        for name in names
        for part in shards(PurePosixPath(name).name)
    ]
    return tuple(dict.fromkeys(parts))


def _by_pattern(listed: dict[str, RemoteFile], request: FetchRequest) -> tuple[str, ...]:
    pattern = request.pattern
    matches = [
        name
        for name in sorted(listed)
        if pattern is not None
        and fnmatchcase(name, pattern)
        and name.endswith(".gguf")
        and "mmproj" not in name.lower()
    ]
    groups = {_with_parts((name,)) for name in matches}
    whole = [group for group in groups if all(name in listed for name in group)]
    if len(whole) == 1:
        return whole[0]
    if len(whole) > 1:
        raise FetchError(
            f"cannot choose a file of {request.repo}: {pattern!r} matches {', '.join(matches[:6])}",
            hint="name one with [model] file",
        )
    ggufs = [name for name in listed if name.endswith(".gguf")]
    near = difflib.get_close_matches(
        request.names[0] if request.names else pattern or "", ggufs, n=3, cutoff=0.3
    )
    raise FetchError(
        f"cannot find {' '.join(request.names) or pattern} in {request.repo}: no such file",
        hint=f"name another with [model] file; it has {', '.join(near)}" if near else None,
    )


def _check_pin(file: RemoteFile, size: int | None, sha256: str | None, repo: str) -> None:
    if sha256 is not None and file.sha256 is not None and file.sha256 != sha256:
        raise FetchError(
            f"cannot use {file.name} of {repo}: its sha256 is {file.sha256}, the profile pins {sha256}",
            hint="the file on the hub changed, or the profile is out of date;"
            " set [model] revision to accept the hub's file",
        )
    if sha256 is None and size is not None and file.bytes != size:
        raise FetchError(
            f"cannot use {file.name} of {repo}: it has {file.bytes} bytes, the profile pins {size}",
            hint="the file on the hub changed, or the profile is out of date;"
            " set [model] revision to accept the hub's file",
        )
