"""Hold the API keys and compare them in constant time. Reads the key file again when it changes."""

import hashlib
import hmac
import logging
from pathlib import Path

from qwenctl.errors import SettingsError
from qwenctl.files import reason
from qwenctl.gate.guard import KeyCheck
from qwenctl.settings.key_file import read_keys

log = logging.getLogger(__name__)


class KeyRing:
    """The keys of a file, one a line (``#`` starts a comment), and those given by name.

    A file that can't be read for a moment keeps its keys; one that was emptied lets nobody in.
    """

    def __init__(self, path: Path | None, given: tuple[str, ...] = ()) -> None:
        """Read the keys.

        Raises:
            SettingsError: the file can't be read or holds no key.
        """
        self._path, self._given = path, tuple(_digest(key) for key in given if key)
        self._seen: tuple[int, int, int] | None = None
        self._filed: tuple[bytes, ...] = ()
        if path is not None:
            try:
                self._seen, self._filed = _look(path), _read(path)
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"cannot read keys {path}: {reason(error)}") from error
            if not self._filed:
                raise SettingsError(f"cannot use keys {path}: it holds none")

    @property
    def asked(self) -> bool:
        """Whether a key is asked for."""
        return self._path is not None or bool(self._given)

    def check(self, authorization: str | None, api_key: str | None) -> KeyCheck:
        """Compare what was sent with every key, without stopping at a match."""
        if not self.asked:
            return KeyCheck.OPEN
        self._reload()
        scheme, _, token = (authorization or "").partition(" ")
        sent = [token.strip()] if scheme.lower() == "bearer" and token.strip() else []
        sent += [api_key.strip()] if api_key and api_key.strip() else []
        if not sent:
            return KeyCheck.MISSING
        digests = [_digest(key) for key in sent]
        matches = [
            hmac.compare_digest(mine, theirs) for mine in (*self._filed, *self._given) for theirs in digests
        ]
        return KeyCheck.VALID if any(matches) else KeyCheck.WRONG

    def _reload(self) -> None:
        if self._path is None:
            return
        try:
            seen = _look(self._path)
            if seen != self._seen:
                self._filed = _read(self._path)
                self._seen = seen
                log.info("keys=%d read again", len(self._filed))
        except (OSError, UnicodeDecodeError) as error:
            if self._seen is not None:
                log.warning("cannot read keys %s: %s; the old ones stay", self._path, reason(error))
            self._seen = None


def _look(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> tuple[bytes, ...]:
    return tuple(_digest(key) for key in read_keys(path))


def _digest(key: str) -> bytes:
    """Equal lengths for comparing, and no key kept in memory."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
