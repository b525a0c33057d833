"""Start the daemon so that it outlives the command that asked for it."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from qwenctl.control.call import refusal
from qwenctl.control.state_dir import DAEMON_LOG, read_status
from qwenctl.errors import ControlError, QwenctlError

START_TIMEOUT_S = 30.0
POLL_S = 0.02


def start_daemon(folder: Path, arguments: Sequence[str]) -> int:
    """Start ``qwenctl run`` in a session of its own and return its pid once it has published a status.

    Raises:
        QwenctlError: it refused to start; carries its own message, hint and exit code.
    """
    path = folder / DAEMON_LOG
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "qwenctl", "--json", "run", "--log", str(path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # its JSON envelope, should it refuse
            stderr=log,  # a traceback; --log rotates the file with it
            cwd="/",
            start_new_session=True,
        )
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        status = read_status(folder)
        if status is not None and status.get("daemon_pid") == process.pid:
            process.returncode = 0  # ours no longer: it lives on without us
            return process.pid
        if process.poll() is not None:
            raise _refused(process, folder)
        time.sleep(POLL_S)
    process.kill()
    process.wait()
    raise ControlError(
        f"cannot start the daemon: no status within {START_TIMEOUT_S:.0f} s",
        hint=f"see {folder / DAEMON_LOG}",
    )


def _refused(process: subprocess.Popen[bytes], folder: Path) -> QwenctlError:
    said = process.stdout.read() if process.stdout else b""
    try:
        return refusal(json.loads(said))
    except ValueError:
        return ControlError(
            f"cannot start the daemon: it exited with code {process.returncode}",
            hint=f"see {folder / DAEMON_LOG}",
        )
