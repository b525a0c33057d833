"""Read a file of API keys: one key a line, ``#`` starts a comment line. The only parser of such files."""

from pathlib import Path

from qwenctl.errors import SettingsError
from qwenctl.files import reason

BYTE_ORDER_MARK = "\ufeff"


def parse_keys(text: str) -> tuple[str, ...]:
    """Return the keys in ``text``, in their order.

    Spaces around a line do not belong to the key. Neither does the byte order mark that some editors on
    Windows put before the first line.
    """
    lines = (line.strip() for line in text.removeprefix(BYTE_ORDER_MARK).splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def read_keys(path: Path) -> tuple[str, ...]:
    """Return the keys in the file.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
    """
    return parse_keys(path.read_text(encoding="utf-8"))


def first_key(path: Path) -> str:
    """Return the first key in the file.

    Raises:
        SettingsError: the file cannot be read, or holds no key.
    """
    try:
        keys = read_keys(path.expanduser())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read API key file {path}: {reason(error)}") from error
    if not keys:
        raise SettingsError(
            f"cannot use API key file {path}: it holds no key", hint="write one key a line into the file"
        )
    return keys[0]
