"""Hold the API keys and compare them in constant time. The key file is read again when it changes."""

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
    """The keys of a file, one a line (``#`` starts a comment), and the given keys.

    While the file can't be read, the keys that were read before stay in force. An emptied file lets nobody
    in.
    """

    def __init__(self, path: Path | None, given: tuple[str, ...] = ()) -> None:
        """Read the keys.

        Raises:
            SettingsError: the file can't be read or holds no key.
        """
        self.path, self._given = path, tuple(_digest(key) for key in given if key)
        self._version: tuple[int, int, int] | None = None  # of the file when it was read last
        self._from_file: tuple[bytes, ...] = ()
        if path is not None:
            try:
                self._version, self._from_file = _version(path), _read(path)
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"cannot read keys {path}: {reason(error)}") from error
            if not self._from_file:
                raise SettingsError(f"cannot use keys {path}: it holds none")

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return self.path is not None or bool(self._given)

    def check(self, authorization: str | None, api_key: str | None) -> KeyCheck:
        """Compare what was sent with every key, without stopping at a match."""
        if not self.required:
            return KeyCheck.OPEN
        self._reload()
        scheme, _, token = (authorization or "").partition(" ")
        sent = [token.strip()] if scheme.lower() == "bearer" and token.strip() else []
        sent += [api_key.strip()] if api_key and api_key.strip() else []
        if not sent:
            return KeyCheck.MISSING
        digests = [_digest(key) for key in sent]
        matches = [
            hmac.compare_digest(known, sent_digest)
            for known in (*self._from_file, *self._given)
            for sent_digest in digests
        ]
        return KeyCheck.VALID if any(matches) else KeyCheck.WRONG

    def _reload(self) -> None:
        if self.path is None:
            return
        try:
            version = _version(self.path)
            if version != self._version:
                self._from_file = _read(self.path)
                self._version = version
                log.info("keys=%d read again", len(self._from_file))
        except (OSError, UnicodeDecodeError) as error:
            if self._version is not None:
                log.warning("cannot read keys %s: %s; the old keys stay in force", self.path, reason(error))
            self._version = None


def key_path(named: str | None) -> Path | None:
    """Return the path of a key file as the settings name it; None where they name none.

    Raises:
        SettingsError: it begins with the home of a user that this machine does not know.
    """
    try:
        return Path(named).expanduser() if named else None
    except RuntimeError as error:
        raise SettingsError(f"cannot find keys {named}: the home folder is not known") from error


def _version(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> tuple[bytes, ...]:
    return tuple(_digest(key) for key in read_keys(path))


def _digest(key: str) -> bytes:
    """Return what is kept of a key: digests have equal lengths, and no key stays in memory."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
