"""Name the program that listens on a port. Only what the system shows to this user can be named."""

import contextlib
import sys
from collections.abc import Iterator

import psutil

from qwenctl.engine.process import run

ANY_HOST = ("0.0.0.0", "::", "*")  # noqa: S104 - compared, not bound
LSOF, ASK_TIMEOUT_S = "/usr/sbin/lsof", 5.0
"""On macOS psutil lists connections for root alone; lsof shows a user's own. Source: psutil's manual."""


def listener(host: str, port: int) -> str | None:
    """Return "pid N (name)" of the process that listens there, or None if that cannot be seen."""
    if sys.platform == "darwin":
        asked = run((LSOF, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpcn"), ASK_TIMEOUT_S)
        return holder_in(asked.stdout, host, port)
    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("inet"):
            if found.status != psutil.CONN_LISTEN or found.pid is None:
                continue
            address: tuple[object, ...] = tuple(found.laddr)
            if address[1] == port and _overlap(str(address[0]), host):
                return f"pid {found.pid} ({psutil.Process(found.pid).name()})"
    return None


def holder_in(text: str, host: str, port: int) -> str | None:
    """Return "pid N (name)" of the program that listens there, from what lsof shows. Pure.

    Source of the form: lsof(8), "OUTPUT FOR OTHER PROGRAMS"; fields p, c and n, one a line.
    """
    for pid, name, address in _listeners(text):
        where, _, number = address.rpartition(":")
        if number == str(port) and _overlap(where.strip("[]"), host):
            return f"pid {pid} ({name})"
    return None


def _listeners(text: str) -> Iterator[tuple[str, str, str]]:
    pid = name = ""
    for line in text.splitlines():
        field, value = line[:1], line[1:]
        if field == "p":
            pid, name = value, "?"
        elif field == "c":
            name = value
        elif field == "n" and pid:
            yield pid, name, value


def _overlap(there: str, host: str) -> bool:
    return there in (host, *ANY_HOST) or host in ANY_HOST
