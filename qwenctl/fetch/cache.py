"""Keep to the hub cache's layout, which llama.cpp and others share: blobs, links to them by commit, refs.

    models--OWNER--NAME/
      blobs/SHA256                      the bytes
      blobs/SHA256.qwenctl-partial      what has arrived so far, and .qwenctl-journal which ranges of it
      snapshots/COMMIT/NAME             a relative link to the blob
      refs/REVISION                     the commit a branch stood for
      refs/qwenctl                      the commit that qwenctl uses; qwenctl-HASH for each further one

Source: huggingface_hub 2.4.0, file_download.py.
"""

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.fetch.disk import cannot, sync_folder
from qwenctl.fetch.pick import pick
from qwenctl.fetch.request import FetchRequest, RemoteFile, ResolvedRequest, is_commit

PARTIAL = ".qwenctl-partial"
JOURNAL = ".qwenctl-journal"
OWN_REF = "qwenctl"
"""Without a ref, ``hf cache prune`` deletes a commit, and ``llama-server --offline -hf`` does not see it."""


def blob_path(folder: Path, sha256: str) -> Path:
    """Return where a file's bytes lie."""
    return folder / "blobs" / sha256


def partial_path(folder: Path, sha256: str) -> Path:
    """Return where a file's bytes lie until they are verified."""
    return folder / "blobs" / f"{sha256}{PARTIAL}"


def journal_path(folder: Path, sha256: str) -> Path:
    """Return the journal: which ranges of the file have arrived."""
    return folder / "blobs" / f"{sha256}{JOURNAL}"


def snapshot_path(folder: Path, commit: str, name: str) -> Path:
    """Return the path by which programs open a file."""
    return folder / "snapshots" / commit / name


def read_ref(folder: Path, revision: str) -> str | None:
    """Return the commit that a revision stood for when some program last fetched it."""
    if is_commit(revision):
        return revision
    if ".." in revision.split("/") or revision.startswith("/"):
        return None
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if is_commit(commit) else None


def look_up(folder: Path, request: FetchRequest, commit: str) -> ResolvedRequest | None:
    """Return the files of a request as they are cached at a commit; None unless all are there.

    If the profile pins a hash, the file must have it. The pattern is tried if the names aren't there.
    """
    try:
        return ResolvedRequest(request.repo, commit, pick(files_at(folder, commit), request))
    except FetchError:
        return None


def files_at(folder: Path, commit: str) -> tuple[RemoteFile, ...]:
    """Return the GGUF files that are cached at a commit."""
    snapshot = folder / "snapshots" / commit
    names = sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.gguf"))
    return tuple(file for name in names if (file := _cached(folder, commit, name)) is not None)


def _cached(folder: Path, commit: str, name: str) -> RemoteFile | None:
    """Return a cached file with the sha256 its blob's name promises."""
    try:
        blob = snapshot_path(folder, commit, name).resolve(strict=True)
        size = blob.stat().st_size
    except OSError:
        return None
    is_blob = len(blob.name) == 64 and blob.parent == (folder / "blobs").resolve()
    return RemoteFile(name, size, blob.name) if is_blob else None


def make_folders(folder: Path) -> None:
    """Make the folder of the blobs.

    Raises:
        FetchError: the cache can't be written.
    """
    try:
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot("write model cache", folder, error) from error


def settle(folder: Path, sha256: str) -> Path:
    """Rename a verified partial file to its blob.

    Raises:
        FetchError: the cache can't be written.
    """
    blob = blob_path(folder, sha256)
    try:
        partial_path(folder, sha256).replace(blob)
        sync_folder(blob.parent)
        journal_path(folder, sha256).unlink(missing_ok=True)
    except OSError as error:
        raise cannot("write", blob, error) from error
    return blob


def discard_partial(folder: Path, sha256: str) -> None:
    """Remove the partial file and its journal."""
    try:
        journal_path(folder, sha256).unlink(missing_ok=True)
        partial_path(folder, sha256).unlink(missing_ok=True)
    except OSError as error:
        raise cannot("remove", partial_path(folder, sha256), error) from error


def publish(folder: Path, commit: str, name: str, sha256: str) -> Path:
    """Link a blob into its commit's snapshot and return the link's path.

    Raises:
        FetchError: the cache can't be written.
    """
    link = snapshot_path(folder, commit, name)
    target = os.path.relpath(blob_path(folder, sha256), link.parent)
    try:
        if link.is_symlink() and str(link.readlink()) == target:
            return link
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(link)
        temporary.symlink_to(target)
        temporary.replace(link)
    except OSError as error:
        raise cannot("write", link, error) from error
    return link


def write_ref(folder: Path, revision: str, commit: str) -> None:
    """Note which commit a branch or tag stands for.

    Raises:
        FetchError: the cache can't be written.
    """
    if is_commit(revision) or read_ref(folder, revision) == commit:
        return
    ref = folder / "refs" / revision
    try:
        ref.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(ref)
        temporary.write_text(commit, encoding="utf-8")
        temporary.replace(ref)
    except OSError as error:
        raise cannot("write", ref, error) from error


def write_own_ref(folder: Path, commit: str) -> None:
    """Note that qwenctl uses a commit, beside other commits that it uses.

    Raises:
        FetchError: the cache can't be written.
    """
    if commit in {read_ref(folder, name) for name in own_refs(folder)}:
        return
    earlier = read_ref(folder, OWN_REF)
    if earlier is not None and (folder / "snapshots" / earlier).is_dir():
        write_ref(folder, f"{OWN_REF}-{earlier[:12]}", earlier)
    write_ref(folder, OWN_REF, commit)


def own_refs(folder: Path) -> tuple[str, ...]:
    """Return the names of qwenctl's own refs."""
    return tuple(sorted(path.name for path in (folder / "refs").glob(f"{OWN_REF}*") if path.is_file()))


def forget_commit(folder: Path, commit: str) -> None:
    """Remove a commit's folder if it is empty, and then the refs to it: they would name nothing."""
    snapshot = folder / "snapshots" / commit
    for path in sorted((*snapshot.rglob("*"), snapshot), key=lambda path: -len(path.parts)):
        with contextlib.suppress(OSError):  # not empty: it stays
            path.rmdir()
    if snapshot.exists():
        return
    for ref in (folder / "refs").rglob("*"):
        if ref.is_file() and read_ref(folder, ref.relative_to(folder / "refs").as_posix()) == commit:
            ref.unlink(missing_ok=True)


def adopt_blob(cache_dir: Path, folder: Path, file: RemoteFile) -> None:
    """Give this repository a blob of the same hash that another repository of the cache has.

    It is the same file under a second name, so that it takes no space and stays when the other one goes.
    """
    if file.sha256 is None or blob_path(folder, file.sha256).exists():
        return
    for other in cache_dir.glob(f"models--*/blobs/{file.sha256}"):
        if not other.is_symlink() and other.is_file() and other.stat().st_size == file.bytes:
            with contextlib.suppress(OSError):  # a disk without links: it is fetched
                make_folders(folder)
                os.link(other, blob_path(folder, file.sha256))
                return


class Lock:
    """The lock of one file. The system releases it when the process that holds it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def take(self) -> bool:
        """Take the lock if nobody has it. The file stays: removing it would give two holders.

        Raises:
            FetchError: the cache can't be written, or its file system knows no locks.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        except OSError as error:
            raise cannot("write model cache", self.path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError as error:
            os.close(fd)
            raise cannot("lock", self.path, error) from error
        self._fd = fd
        return True

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _beside(path: Path) -> Path:
    """Return an unused name in the same folder, for a rename into place."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
