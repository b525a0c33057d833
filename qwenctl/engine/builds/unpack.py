"""Unpack an archive of a release into an empty folder: tar.gz, and the zip files of earlier releases.

An archive may be made to do harm even where its digest is right: a mirror's, or a file that a person was
given. So every entry is checked before the first byte is written:

- a name stays inside the folder: not absolute, no "..", no control characters;
- files, folders and links only; a link leads to a file of this archive, and is made after all files are
  written, so that nothing is ever written through a link;
- bounded: how many entries, how many bytes, and how many times larger than the archive they may become;
- permissions are ours: 0755 where the archive says that a file is a program, else 0644.

One folder that has all the others is left out.
"""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from qwenctl.errors import FetchError
from qwenctl.fetch.disk import free_bytes
from qwenctl.files import reason

MAX_ENTRIES = 5_000
MAX_BYTES = 16 * 2**30
MAX_RATIO, SMALL_BYTES = 60, 64 * 2**20
"""How many times larger than the archive its files may be, and how large they may be in any case.

CUDA's libraries, which compress best, are 3 times larger; an archive bomb is a thousand times.
"""
MAX_NAME = 400
BLOCK_BYTES, MAX_TAIL_BLOCKS = 2**20, 16
PROGRAM = "llama-server"
SPACE_HINT = "free some space, or set XDG_DATA_HOME to a folder that is large enough and yours"


class ArchiveError(FetchError):
    """The archive is damaged, or would do harm. Trying it again does not help."""


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One entry of an archive. ``target`` is what a link says; ``hard`` means a name in the archive."""

    name: str
    kind: Literal["file", "folder", "link", "other"]
    bytes: int
    executable: bool
    target: str = ""
    hard: bool = False


def unpack(archive: Path, folder: Path, margin_bytes: int = 0) -> None:
    """Write the files of an archive into ``folder``, which is made if it is missing.

    Before the first one, the space for all and a margin is looked for.

    On failure the folder holds a part of them: its owner removes it.

    Raises:
        ArchiveError: the archive is damaged or would do harm.
        FetchError: the disk failed.
    """
    try:
        size = archive.stat().st_size
        with _opened(archive) as (entries, read):
            checked = _check(archive.name, entries, max(SMALL_BYTES, size * MAX_RATIO))
            _check_space(archive, folder, sum(entry.bytes for entry in checked), margin_bytes)
            top = _top(checked)
            for entry in checked:
                if (path := _place(folder, entry.name, top)) is not None and entry.kind in ("file", "folder"):
                    _write(path, entry, read)
        _link(archive.name, [entry for entry in checked if entry.kind == "link"], folder, top)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(archive.name, str(error)) from error
    except OSError as error:
        if error.errno is None:  # gzip's own complaint about the bytes
            raise _damaged(archive.name, str(error)) from error
        raise FetchError(
            f"cannot unpack {archive.name} into {folder}: {reason(error)}", hint=SPACE_HINT
        ) from error
    except ValueError as error:  # zlib's errors are ValueErrors where they are not OSErrors
        raise _damaged(archive.name, str(error)) from error


def _check_space(archive: Path, folder: Path, needed_bytes: int, margin_bytes: int) -> None:
    free = free_bytes(folder)
    if needed_bytes + margin_bytes > free:
        margin = f" and {margin_bytes} of margin" if margin_bytes else ""
        raise FetchError(
            f"cannot unpack {archive.name} into {folder}: "
            f"{needed_bytes} bytes{margin} are needed, {free} are free",
            hint=SPACE_HINT,
        )


def find_program(folder: Path) -> Path:
    """Return the llama-server among unpacked files: the one that lies highest.

    Raises:
        ArchiveError: there is none.
    """
    found = [path for path in folder.rglob(PROGRAM) if path.is_file() and not path.is_symlink()]
    if not found:
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
        raise ArchiveError(
            f"cannot find {PROGRAM} in the archive: it has {names}",
            hint="take the archive of a llama.cpp release whose name has -bin-ubuntu- or -bin-macos-",
        )
    return min(found, key=lambda path: (len(path.parts), str(path)))


Read = Callable[[ArchiveEntry], IO[bytes]]


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Iterator[ArchiveEntry], Read]]:
    """Open an archive by what it is, not by its name."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield (
                (_zip_entry(zipped, info) for info in zipped.infolist()),
                lambda entry: zipped.open(entry.name),
            )
        return
    with tarfile.open(archive, "r:gz") as tar:

        def read(entry: ArchiveEntry) -> IO[bytes]:
            file = tar.extractfile(entry.name)
            if file is None:
                raise tarfile.ReadError(f"{entry.name} has no content")
            return file

        yield _tar_entries(tar), read


def _tar_entries(tar: tarfile.TarFile) -> Iterator[ArchiveEntry]:
    """Yield the entries, then read to the end: gzip compares its checksum of all bytes only there."""
    for info in tar:
        yield _tar_entry(info)
    for _ in range(MAX_TAIL_BLOCKS):
        if not tar.fileobj.read(BLOCK_BYTES):
            return
    raise tarfile.ReadError("it goes on after its end")


def _tar_entry(info: tarfile.TarInfo) -> ArchiveEntry:
    kind: Literal["file", "folder", "link", "other"] = "other"
    if info.isreg() and not info.issparse():
        kind = "file"
    elif info.isdir():
        kind = "folder"
    elif info.issym() or info.islnk():
        kind = "link"
    size = info.size if kind == "file" else 0
    return ArchiveEntry(info.name, kind, size, bool(info.mode & 0o111), info.linkname, info.islnk())


def _zip_entry(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> ArchiveEntry:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        target = zipped.read(info) if info.file_size <= MAX_NAME else b""
        return ArchiveEntry(info.filename, "link", 0, False, target.decode("utf-8", "replace"))
    if info.is_dir():
        return ArchiveEntry(info.filename, "folder", 0, False)
    ordinary = stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0
    return ArchiveEntry(info.filename, "file" if ordinary else "other", info.file_size, bool(mode & 0o111))


def _check(archive: str, entries: Iterator[ArchiveEntry], most_bytes: int) -> tuple[ArchiveEntry, ...]:
    """Return the entries, each one checked by itself and all together.

    Raises:
        ArchiveError: the archive would do harm.
    """
    checked: dict[str, ArchiveEntry] = {}
    total, most = 0, min(most_bytes, MAX_BYTES)
    for entry in entries:
        path = str(PurePosixPath(entry.name))
        if path in (".", ""):
            continue
        _check_entry(archive, entry)
        if path in checked and entry.kind != "folder":
            raise _harmful(archive, f"it has {entry.name} twice")
        total += entry.bytes
        if total > most or len(checked) >= MAX_ENTRIES:
            raise _harmful(archive, f"it would become more than {most} bytes or {MAX_ENTRIES} files")
        checked[path] = entry
    for name, entry in checked.items():
        for parent in PurePosixPath(name).parents:
            above = checked.get(str(parent))
            if above is not None and above.kind != "folder":
                raise _harmful(archive, f"{entry.name} lies in {above.name}, which is no folder")
    return tuple(checked.values())


def _check_entry(archive: str, entry: ArchiveEntry) -> None:
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts:
        raise _harmful(archive, f"{entry.name[:80]!r} would be written outside the folder")
    if len(entry.name) > MAX_NAME or any(ord(letter) < 32 or letter == "\\" for letter in entry.name):
        raise _harmful(archive, f"it has an entry called {entry.name[:80]!r}")
    if entry.kind == "other":
        raise _harmful(archive, f"{entry.name} is neither a file nor a folder")


def _top(entries: tuple[ArchiveEntry, ...]) -> str | None:
    """Return the one folder that has all the others, if there is one."""
    tops = {PurePosixPath(entry.name).parts[0] for entry in entries}
    files = {entry.name for entry in entries if entry.kind != "folder"}
    return tops.pop() if len(tops) == 1 and not tops & files else None


def _place(folder: Path, name: str, top: str | None) -> Path | None:
    """Return where an entry is written; None for the folder that is left out."""
    parts = PurePosixPath(name).parts
    inside = parts[1:] if top is not None else parts
    return folder.joinpath(*inside) if inside else None


def _write(path: Path, entry: ArchiveEntry, read: Read) -> None:
    if entry.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    left = entry.bytes
    with read(entry) as source, path.open("xb") as file:
        while block := source.read(min(BLOCK_BYTES, left + 1)):
            left -= len(block)
            if left < 0:
                raise _harmful(path.name, f"{entry.name} is larger than the archive says")
            file.write(block)
    path.chmod(0o755 if entry.executable else 0o644)


def _link(archive: str, links: list[ArchiveEntry], folder: Path, top: str | None) -> None:
    """Make the links, each to a file of this archive that is there."""
    placed: list[tuple[Path, ArchiveEntry]] = []
    for entry in links:
        if (path := _place(folder, entry.name, top)) is None:
            continue
        if entry.hard:
            source = _place(folder, entry.target, top)
            if source is None or not _is_inside(source, folder) or not source.is_file():
                raise _leads_out(archive, entry)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, path)
            continue
        target = PurePosixPath(entry.target)
        if target.is_absolute() or not entry.target or "\0" in entry.target or len(entry.target) > MAX_NAME:
            raise _leads_out(archive, entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
        placed.append((path, entry))
    for path, entry in placed:
        if not _is_inside(path, folder):
            raise _leads_out(archive, entry)


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, all links followed, is something of the folder that exists."""
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False


def _leads_out(archive: str, entry: ArchiveEntry) -> ArchiveError:
    return _harmful(
        archive, f"{entry.name} is a link to {entry.target[:80]!r}, which is no file of the archive"
    )


def _harmful(archive: str, why: str) -> ArchiveError:
    return ArchiveError(
        f"cannot unpack {archive}: {why}", hint="it is no archive of llama.cpp; check where it comes from"
    )


def _damaged(archive: str, why: str) -> ArchiveError:
    return ArchiveError(
        f"cannot unpack {archive}: it is damaged, or no archive: {why}", hint="fetch it again"
    )
