"""Find the files that fetches left behind and nobody uses. Remove them only when a person asks for it.

It finds only files that qwenctl put there: partial files by their names, quants by the record. Files that
other programs downloaded into the shared cache are theirs.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qwenctl.errors import FetchError
from qwenctl.fetch.artifact_record import Recorded, read_records, write_records
from qwenctl.fetch.cache import JOURNAL, PARTIAL, Lock, forget_commit
from qwenctl.fetch.disk import allocated_bytes, cannot
from qwenctl.fetch.request import FetchRequest, is_commit


@dataclass(frozen=True, slots=True)
class Leftover:
    """Files that can be removed, in the order of ``paths``. ``bytes`` is the space that this frees."""

    kind: Literal["partial", "quant"]
    name: str
    repo: str
    bytes: int
    paths: tuple[Path, ...]


def leftovers(
    cache_dir: Path, state_dir: Path, used: frozenset[Path], wanted: tuple[FetchRequest, ...] = ()
) -> tuple[Leftover, ...]:
    """Return partial files nobody wants, and fetched quants with no file in ``used``. Blocks.

    ``used``: the paths that some profile's settings, or a running server, still use. ``wanted``: downloads
    that will go on. Where their hashes are unknown, every partial file of their repository may be theirs.

    Raises:
        FetchError: the cache can't be read.
    """
    real = frozenset(path.resolve() for path in used)
    records = read_records(state_dir).artifacts
    blobs_in_use = real | {
        file.path.resolve() for entry in records if not _is_unused(entry, real) for file in entry.files
    }
    removable = [*_partials(cache_dir, wanted)]
    for entry in records:
        if not _is_unused(entry, real):
            continue
        links = [file.path for file in entry.files]
        blobs = [blob for link in links if (blob := link.resolve()) != link and blob not in blobs_in_use]
        size = sum(allocated_bytes(blob) for blob in blobs)
        name = entry.quant or entry.files[0].name
        removable.append(Leftover("quant", name, entry.repo, size, (*links, *blobs)))
    return tuple(removable)


def remove(removable: tuple[Leftover, ...], state_dir: Path) -> int:
    """Remove leftovers and return the number of bytes freed. Blocks.

    Raises:
        FetchError: a file can't be removed.
    """
    freed = 0
    for leftover in removable:
        for path in leftover.paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise cannot("remove", path, error) from error
        freed += leftover.bytes
    forget_files(state_dir, {path for leftover in removable for path in leftover.paths})
    return freed


def forget_files(state_dir: Path, gone: Collection[Path]) -> None:
    """Forget the artifacts whose files were removed, and the commits of the cache that are empty now.

    Raises:
        FetchError: the record can't be written.
    """
    for path in gone:
        commit = next((parent for parent in path.parents if parent.parent.name == "snapshots"), None)
        if commit is not None and is_commit(commit.name):
            forget_commit(commit.parents[1], commit.name)
    entries = read_records(state_dir).artifacts
    remaining = tuple(entry for entry in entries if not any(file.path in gone for file in entry.files))
    if len(remaining) != len(entries):
        write_records(state_dir, remaining)


def _is_unused(entry: Recorded, used: frozenset[Path]) -> bool:
    return entry.fetched and not any(file.path.resolve() in used for file in entry.files)


def _is_wanted(repo: str, sha256: str, wanted: tuple[FetchRequest, ...]) -> bool:
    for request in wanted:
        hashes = {file.sha256 for file in request.files}
        if request.repo == repo and (not hashes or None in hashes or sha256 in hashes):
            return True
    return False


def _partials(cache_dir: Path, wanted: tuple[FetchRequest, ...]) -> list[Leftover]:
    partials = []
    for partial in sorted(cache_dir.glob(f"models--*/blobs/*{PARTIAL}")):
        sha256 = partial.name.removesuffix(PARTIAL)
        folder = partial.parents[1].name
        if _is_being_fetched(cache_dir / ".locks" / folder / f"{sha256}.lock"):
            continue
        journal = partial.with_name(f"{sha256}{JOURNAL}")
        repo = folder.removeprefix("models--").replace("--", "/")
        if _is_wanted(repo, sha256, wanted):
            continue
        partials.append(Leftover("partial", sha256[:12], repo, allocated_bytes(partial), (journal, partial)))
    return partials


def _is_being_fetched(lock_path: Path) -> bool:
    lock = Lock(lock_path)
    try:
        return not lock.take()
    except FetchError:
        return False
    finally:
        lock.release()
