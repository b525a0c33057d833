"""Start the daemon so that it outlives the command that asked for it."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from qwenctl import paths
from qwenctl.control.call import refusal
from qwenctl.control.state_dir import DAEMON_LOG, read_status
from qwenctl.errors import ControlError, QwenctlError

START_TIMEOUT_S = 30.0
POLL_S = 0.02
ENDING_S = 5.0
"""How long a daemon may live on after it has given its folder back."""


class StartedDaemon:
    """A daemon that this command has started."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.pid = process.pid
        self._process, self._folder = process, folder

    def refusal(self) -> QwenctlError | None:
        """Return the error that a daemon ended with which has given its folder back; None if it lives on."""
        try:
            self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            return None
        output = self._process.stdout.read() if self._process.stdout else b""
        try:
            return refusal(json.loads(output))
        except ValueError:
            return ControlError(
                f"cannot start the daemon: it exited with code {self._process.returncode}",
                hint="qwenctl logs --daemon shows why",
            )

    def leave(self) -> None:
        """Let the daemon run on when this command ends."""
        self._process.returncode = 0


def start_daemon(
    folder: Path,
    arguments: Sequence[str],
    overrides: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> StartedDaemon:
    """Start ``qwenctl run`` in a session of its own; return once it has published a status or has ended.

    ``overrides`` are the flags of ``up``; the daemon keeps them once they have generated a token.
    ``environment`` is the daemon's; None: ours. It works in ``/``, so no path in it may be relative.

    Raises:
        ControlError: it does neither in time.
    """
    path = paths.private_dir(paths.log_dir(folder)) / DAEMON_LOG
    words = [sys.executable, "-m", "qwenctl", "--json", "run", "--log", str(path)]
    words += ["--overrides", json.dumps(overrides), *arguments]
    with path.open("ab") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # its JSON envelope, if it ends with an error
            stderr=log,  # a traceback; --log rotates the file with it
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        status = read_status(folder)
        if process.poll() is not None or (status and status.get("daemon_pid") == process.pid):
            return StartedDaemon(process, folder)
        time.sleep(POLL_S)
    process.kill()
    process.wait()
    raise ControlError(
        f"cannot start the daemon: no status within {START_TIMEOUT_S:.0f} s",
        hint="qwenctl logs --daemon shows why",
    )
