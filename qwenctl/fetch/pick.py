"""Choose a quant's files from what a repository holds. Pure: no I/O."""

import difflib
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from qwenctl.errors import FetchError
from qwenctl.fetch.gguf_check import shards
from qwenctl.fetch.request import FetchRequest, RemoteFile


def pick(listing: tuple[RemoteFile, ...], request: FetchRequest) -> tuple[RemoteFile, ...]:
    """Return the files of the request, parts of a split file in their order.

    1. The exact names, each with the other parts of its split file. 2. The pattern, when names drifted:
    it must leave one file, or the parts of one. Projectors (``mmproj``) are never meant by a pattern.

    Raises:
        FetchError: nothing matches, several things do, or a file is not the one the profile pins.
    """
    known = {file.name: file for file in listing}
    names = _with_parts(request.names)
    if not names or not all(name in known for name in names):
        names = _by_pattern(known, request)
    files = tuple(known[name] for name in names)
    for wanted in request.files:
        found = known.get(wanted.name)
        if found is not None and found in files:
            _check_pin(found, wanted.bytes, wanted.sha256, request.repo)
    return files


def _with_parts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names with every part of the split files among them, without repetition."""
    parts = [
        str(PurePosixPath(name).with_name(part))
        for name in names
        for part in shards(PurePosixPath(name).name)
    ]
    return tuple(dict.fromkeys(parts))


def _by_pattern(known: dict[str, RemoteFile], request: FetchRequest) -> tuple[str, ...]:
    pattern = request.pattern
    matches = [
        name
        for name in sorted(known)
        if pattern is not None
        and fnmatchcase(name, pattern)
        and name.endswith(".gguf")
        and "mmproj" not in name.lower()
    ]
    groups = {_with_parts((name,)) for name in matches}
    whole = [group for group in groups if all(name in known for name in group)]
    if len(whole) == 1:
        return whole[0]
    if len(whole) > 1:
        raise FetchError(
            f"cannot choose a file of {request.repo}: {pattern!r} matches {', '.join(matches[:6])}",
            hint="name one with [model] file",
        )
    ggufs = [name for name in known if name.endswith(".gguf")]
    near = difflib.get_close_matches(
        request.names[0] if request.names else pattern or "", ggufs, n=3, cutoff=0.3
    )
    raise FetchError(
        f"cannot find {' '.join(request.names) or pattern} in {request.repo}: no such file",
        hint=f"name another with [model] file; it has {', '.join(near)}" if near else None,
    )


def _check_pin(found: RemoteFile, size: int | None, sha256: str | None, repo: str) -> None:
    if sha256 is not None and found.sha256 is not None and found.sha256 != sha256:
        raise FetchError(
            f"cannot use {found.name} of {repo}: its sha256 is {found.sha256}, the profile pins {sha256}",
            hint="one of the two is not what it says; set [model] revision to choose for yourself",
        )
    if sha256 is None and size is not None and found.bytes != size:
        raise FetchError(
            f"cannot use {found.name} of {repo}: it has {found.bytes} bytes, the profile pins {size}",
            hint="set [model] revision to choose for yourself",
        )
