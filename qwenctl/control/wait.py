"""Wait for what the daemon was asked to do, by its status file. Works while the daemon is busy."""

import time
from collections.abc import Callable
from pathlib import Path

from qwenctl.control.state_dir import read_status, running
from qwenctl.errors import ControlError, ExitCode, NotReadyError, QwenctlError

POLL_S = 0.05

Status = dict[str, object]


def until_ready(
    folder: Path,
    timeout_s: float,
    on_status: Callable[[Status], None],
    *,
    not_pid: object = None,
    fresh: bool = False,
) -> Status:
    """Return the status once a token was generated, by another child than ``not_pid``.

    The timeout counts from the end of a download. ``fresh``: a new configuration is being tried, so that
    the return of the one before it is no success.

    Raises:
        NotReadyError: no token in time, the server is parked as failed, or it was rolled back.
        ControlError: the daemon ended.
    """
    give_up_at = time.monotonic() + timeout_s
    while True:
        status = read_status(folder) or {}
        on_status(status)
        match status.get("phase"):
            case "starting" | "ready" | "failed" if fresh and isinstance(
                back := status.get("rolled_back"), dict
            ):
                raise NotReadyError(
                    f"cannot serve what was asked for: {back['why']}",
                    hint="the last good configuration is back; qwenctl events shows what happened",
                )
            case "ready" if not_pid is None or status.get("pid") != not_pid:
                return status
            case "failed":
                raise parked(status)
            case "fetching":
                give_up_at = time.monotonic() + timeout_s
            case _:
                pass
        if running(folder) is None:
            raise ControlError("cannot start the server: the daemon ended", hint="qwenctl logs shows why")
        if time.monotonic() >= give_up_at:
            raise NotReadyError(
                f"cannot serve: no token within {timeout_s:g} s (phase {status.get('phase')}{_last(status)})",
                hint="qwenctl logs shows the server's output; the daemon keeps trying",
            )
        time.sleep(POLL_S)


def until_gone(folder: Path, timeout_s: float) -> bool:
    """Return whether the daemon ended in time."""
    give_up_at = time.monotonic() + timeout_s
    while running(folder) is not None:
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(POLL_S)
    return True


def parked(status: Status) -> QwenctlError:
    """Return the error for a daemon that has given up for now, with the exit code of its cause."""
    ending = status.get("last_ending")
    ending = ending if isinstance(ending, dict) else {}
    summary = str(ending.get("summary", "the server failed"))
    message = summary if summary.startswith("cannot ") else f"cannot serve: {summary}"
    error = NotReadyError(message, ending.get("hint"))
    codes = {code.name.lower(): code for code in ExitCode}
    error.exit_code = codes.get(str(ending.get("cause")), ExitCode.NOT_READY)
    return error


def _last(status: Status) -> str:
    ending = status.get("last_ending")
    return f", {ending['summary']}" if isinstance(ending, dict) else ""
