"""Wait until the daemon has done what it was asked. Reads its status file, so it works while it is busy."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from qwenctl.control.call import call
from qwenctl.control.state_dir import read_status, running
from qwenctl.errors import ControlError, NotReadyError, QwenctlError

POLL_S = 0.05

Status = dict[str, object]
READY_TIMEOUT_S = 600.0
"""How long to wait for a daemon that does not say how long its settings allow."""
LOADING = ("planning", "fetching")
REEXECUTED_S = 150.0
"""A program that hangs is killed after 60 s, and the old one starts again."""
BACK_S = 60.0
"""How long a command waits for the engine that comes back after a refused one."""


def unknown() -> QwenctlError | None:
    """Return None: nobody knows how a daemon ended that this command has not started."""
    return None


def until_planned(
    folder: Path, change: int, on_status: Callable[[Status], None], ended: Callable[[], QwenctlError | None]
) -> Status:
    """Return the status once all that can be known without the hub was checked, or a download has begun.

    Raises:
        QwenctlError: the change was refused, or the daemon ended; with the error's own exit code.
    """
    while True:
        status = read_status(folder) or {}
        on_status(status)
        _check_refused(status, change)
        newest = _change(status)
        checked = newest.get("state") not in LOADING or isinstance(status.get("download"), dict)
        if _number(newest) > change or (_number(newest) == change and checked):
            return status
        _check_running(folder, ended)
        time.sleep(POLL_S)


def until_ready(
    folder: Path,
    timeout_s: float | None,
    on_status: Callable[[Status], None],
    *,
    change: int | None = None,
    not_pid: object = None,
    ended: Callable[[], QwenctlError | None] = unknown,
) -> Status:
    """Return the status once a token was generated, by another child than ``not_pid``.

    With ``change``, that change must have arrived: the return of the configuration before it is no success.
    An idle server is a success, too: the next request loads the model. The timeout counts from the end of
    planning and downloading.

    Raises:
        NotReadyError: no token in time, the server is parked as failed, or the change was rolled back.
        QwenctlError: the change was refused, or the daemon ended; with the error's own exit code.
    """
    waiting_since = time.monotonic()
    while True:
        status = read_status(folder) or {}
        on_status(status)
        if change is not None:
            _check_refused(status, change)
        newest, phase = _change(status), status.get("phase")
        arrived = change is None or _number(newest) >= change
        arrived = arrived and newest.get("state") in ("settled", "refused")
        if arrived and change is not None and _number(newest) > change and newest.get("origin") == "up":
            raise NotReadyError(
                "cannot serve what was asked for: a later qwenctl up replaced it",
                hint="qwenctl status shows what is served",
            )
        if arrived and phase == "ready" and (not_pid is None or status.get("pid") != not_pid):
            return status
        if arrived and phase == "idle" and not_pid is None:
            return status
        if phase == "failed" and newest.get("state") not in LOADING:
            raise parked(status)
        refused = newest.get("refused")
        if phase == "backoff" and status.get("plan") is None and isinstance(refused, dict):
            _check_refused(status, int(refused["number"]))  # it waits for a card, maybe for ever
        if phase in LOADING or newest.get("state") in LOADING:
            waiting_since = time.monotonic()
        _check_running(folder, ended)
        limit_s = _limit_s(status) if timeout_s is None else timeout_s
        if time.monotonic() >= waiting_since + limit_s:
            raise NotReadyError(
                f"cannot serve: no token within {limit_s:g} s (phase {phase}{_last(status)})",
                hint="qwenctl logs shows the server's output; the daemon keeps trying",
            )
        time.sleep(POLL_S)


def until_engine_in_force(folder: Path, on_status: Callable[[Status], None]) -> tuple[int, Status]:
    """Let the daemon take the engine that is chosen now, and wait for it. Return the change's number, too.

    Raises:
        QwenctlError: the engine was refused; the message says why. The one before serves again by then, if it
            does so within ``BACK_S``.
    """
    answer = call(folder, "POST", "/v1/engine")
    number = answer.get("change") if isinstance(answer, dict) else None
    if not isinstance(number, int):
        raise ControlError(
            "cannot change the engine: the daemon is of another version",
            hint="qwenctl reexec puts this version in its place; an old one needs qwenctl down, then up",
        )
    try:
        return number, until_ready(folder, None, on_status, change=number)
    except QwenctlError:
        with contextlib.suppress(QwenctlError):
            until_ready(folder, BACK_S, on_status)
        raise


def until_running(
    folder: Path, timeout_s: float = 30.0, ended: Callable[[], QwenctlError | None] = unknown
) -> None:
    """Return once a daemon that a service manager was told to start has published a status.

    launchd says yes before it has started anything. ``ended`` says how a daemon ended meanwhile.

    Raises:
        QwenctlError: it ended, or has not published one in time.
    """
    give_up_at = time.monotonic() + timeout_s
    while running(folder) is None or read_status(folder) is None:
        if (error := ended()) is not None:
            raise error
        if time.monotonic() >= give_up_at:
            raise ControlError(
                f"cannot reach the service's daemon: no status within {timeout_s:.0f} s",
                hint="qwenctl service status shows what its manager says",
            )
        time.sleep(POLL_S)


def until_reexecuted(
    folder: Path, number: int, daemon_pid: object, timeout_s: float = REEXECUTED_S
) -> Status:
    """Return the status once this re-execution has come to its end, whatever that is.

    ``daemon_pid``: the daemon that was asked. Another one that knows nothing of it was started by a service
    manager.

    Raises:
        ControlError: the daemon ended, or says nothing in time.
    """
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        status = read_status(folder) or {}
        done = status.get("reexec")
        if isinstance(done, dict) and isinstance(done.get("number"), int) and done["number"] >= number:
            return status
        if status.get("daemon_pid") not in (None, daemon_pid):
            raise ControlError(
                "cannot re-execute: the new program ended before it was ready; "
                f"the service manager has started version {status.get('version')}",
                hint="qwenctl service status and its log show why",
            )
        time.sleep(POLL_S)
    raise ControlError(
        f"cannot re-execute: the daemon has not said within {timeout_s:.0f} s what came of it",
        hint="qwenctl status and qwenctl logs --daemon show it",
    )


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
    error = QwenctlError.from_code(str(ending.get("cause")), message, ending.get("hint"))
    return error if error.code == ending.get("cause") else NotReadyError(message, ending.get("hint"))


def _check_refused(status: Status, change: int) -> None:
    refused = _change(status).get("refused")
    if not isinstance(refused, dict) or refused.get("number") != change:
        return
    if refused.get("rolled_back"):
        raise NotReadyError(
            str(refused["message"]).replace("cannot serve:", "cannot serve what was asked for:"),
            hint="the last good configuration is back; qwenctl events shows what happened",
        )
    raise QwenctlError.from_code(
        str(refused["code"]),
        str(refused["message"]),
        _text(refused.get("hint")),
        {"away": True} if refused.get("away") else None,
    )


def _check_running(folder: Path, ended: Callable[[], QwenctlError | None]) -> None:
    if running(folder) is None:
        raise ended() or ControlError(
            "cannot start the server: the daemon ended", hint="qwenctl logs --daemon shows why"
        )


def _limit_s(status: Status) -> float:
    """Return how long the daemon's own settings let a server take to its first token."""
    limit = status.get("ready_timeout_s")
    return float(limit) if isinstance(limit, int | float) else READY_TIMEOUT_S


def _change(status: Status) -> dict[str, object]:
    change = status.get("change")
    return change if isinstance(change, dict) else {}


def _number(change: dict[str, object]) -> int:
    number = change.get("number")
    return number if isinstance(number, int) else 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _last(status: Status) -> str:
    ending = status.get("last_ending")
    return f", {ending['summary']}" if isinstance(ending, dict) else ""
