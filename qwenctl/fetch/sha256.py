"""Hash a file: as a whole, or while it is still arriving, behind the growing prefix that is complete.

Both can be stopped after any block of 1 MiB: a file of 16 GB takes most of a minute.
"""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.fetch.disk import cannot

BLOCK_BYTES = 2**20


class PrefixHash:
    """The sha256 of a file's growing beginning. ``advance`` says how far it is complete; never goes back."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._hash = hashlib.sha256()
        self._ready = 0
        self._stop = False
        self._changed = threading.Condition()
        self._error: OSError | None = None
        self.hashed = 0
        self._thread = threading.Thread(target=self._run, name="sha256", daemon=True)
        self._thread.start()

    def advance(self, ready: int) -> None:
        """Say that the first ``ready`` bytes are there."""
        with self._changed:
            if ready > self._ready:
                self._ready = ready
                self._changed.notify()

    def close(self) -> None:
        """Tell the thread to end, finished or not, and don't wait: it has opened the file for itself."""
        with self._changed:
            self._stop = True
            self._changed.notify()

    def result(self) -> str:
        """Return the hash once every byte was announced. Blocks; call it in a thread.

        Raises:
            FetchError: the file couldn't be read, or ``close`` came first.
        """
        self._thread.join()
        if self._error is not None:
            raise cannot("read", self._path, self._error) from self._error
        if self.hashed < self._size:
            raise stopped(self._path)
        return self._hash.hexdigest()

    def _run(self) -> None:
        view = memoryview(bytearray(BLOCK_BYTES))
        try:
            with self._path.open("rb", buffering=0) as file:
                while self.hashed < self._size:
                    with self._changed:
                        while self._ready <= self.hashed and not self._stop:
                            self._changed.wait()
                        if self._stop:
                            return
                        ready = self._ready
                    size = file.readinto(view[: min(BLOCK_BYTES, ready - self.hashed)])
                    if not size:
                        self._error = OSError(0, "it became shorter")
                        return
                    self._hash.update(view[:size])
                    self.hashed += size
        except OSError as error:
            self._error = error


def hash_file(path: Path, on_bytes: Callable[[int], None], is_stopped: Callable[[], bool]) -> str:
    """Return a file's sha256. Blocks; call it in a thread.

    After each block ``on_bytes`` gets the number of bytes hashed so far, in the same thread, and
    ``is_stopped`` is asked whether to go on.

    Raises:
        FetchError: it can't be read, or it was stopped.
    """
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK_BYTES)
    view = memoryview(buffer)
    done = 0
    try:
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(buffer):
                digest.update(view[:size])
                done += size
                on_bytes(done)
                if is_stopped():
                    raise stopped(path)
    except OSError as error:
        raise cannot("read", path, error) from error
    return digest.hexdigest()


def stopped(path: Path) -> FetchError:
    """Return the error that ends a hash nobody waits for any more."""
    return FetchError(f"cannot hash {path}: it was stopped")
