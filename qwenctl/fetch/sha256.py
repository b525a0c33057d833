"""Hash a file while it is still arriving, in a thread behind the growing prefix that is complete."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

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
        """End the thread, finished or not. Returns when it no longer reads the file."""
        with self._changed:
            self._stop = True
            self._changed.notify()
        self._thread.join()

    def result(self) -> str:
        """Return the hash once every byte was announced. Blocks; call it in a thread.

        Raises:
            FetchError: the file couldn't be read.
        """
        self._thread.join()
        if self._error is not None:
            raise cannot("read", self._path, self._error) from self._error
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


def hash_file(path: Path, on_bytes: Callable[[int], None]) -> str:
    """Return a file's sha256, saying how far it is. Blocks; call it in a thread.

    Raises:
        FetchError: it can't be read.
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
    except OSError as error:
        raise cannot("read", path, error) from error
    return digest.hexdigest()
