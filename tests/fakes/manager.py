"""A real systemd user manager in mount and PID namespaces of its own, on a machine that booted otherwise.

Its home is the test's; commands run beside it through ``nsenter``. Ending its PID 1 ends all it started.
Only ever a *user* manager: the namespaces share /tmp and the rest of the disk with the machine, and a system
manager starts systemd-tmpfiles-setup.service, which empties /tmp at boot. It did so once.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.fakes.home import Home, Ran, until

SYSTEMD = Path("/lib/systemd/systemd")
TOOLS = ("unshare", "nsenter", "mount", "systemctl", "dbus-daemon")
START_S = 20
SCRIPT = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR/systemd/user"
chmod 700 "$XDG_RUNTIME_DIR"
for unit in tmpfiles-setup.service tmpfiles-clean.service tmpfiles-clean.timer; do
  ln -s /dev/null "$XDG_RUNTIME_DIR/systemd/user/systemd-$unit"
done
{systemd} --user --log-target=console >"$HOME/systemd.log" 2>&1 &
wait
"""


def missing() -> str | None:
    """Name what a manager of our own needs and this machine lacks."""
    if sys.platform != "linux":
        return "Linux"
    if os.geteuid() != 0:
        return "root, for namespaces"
    if not SYSTEMD.exists():
        return str(SYSTEMD)
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None and tool != "dbus-daemon"]
    if lacking:
        return lacking[0]
    made = subprocess.run(
        ["unshare", "-m", "-p", "-f", "--mount-proc", "true"],  # noqa: S607
        capture_output=True,
        check=False,
        timeout=20,
    )
    return None if made.returncode == 0 else "namespaces"


class Manager:
    """The manager of one home. ``qwenctl`` and ``systemctl`` run inside, as its user would run them."""

    def __init__(self, home: Home) -> None:
        self.home = home
        runtime = f"/run/user/{os.geteuid()}"
        home.environment |= {
            "XDG_RUNTIME_DIR": runtime,
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={runtime}/bus",
        }
        self._outer = subprocess.Popen(
            ["unshare", "-m", "-p", "-f", "--mount-proc", "bash", "-c", SCRIPT.format(systemd=SYSTEMD)],  # noqa: S607
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.init = 0
        until(self._found, within=START_S)
        until(lambda: self.systemctl("is-system-running").code == 0, within=START_S)

    def run(self, *words: str) -> Ran:
        """Run a program beside the manager."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-m", "-p", "--", *words],  # noqa: S607
            env=self.home.environment,
            cwd=self.home.path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ran(done.returncode, done.stdout.strip(), done.stderr.strip())

    def qwenctl(self, *words: str) -> Ran:
        """Run the command line."""
        return self.run(sys.executable, "-m", "qwenctl", *words)

    def systemctl(self, *words: str) -> Ran:
        """Run systemctl for the user."""
        return self.run("systemctl", "--user", *words)

    def show(self, name: str) -> str:
        """Return one property of the service."""
        return self.systemctl("show", "-P", name, "qwenctl.service").out

    def status(self) -> dict[str, object]:
        """The status the daemon published last; its pids are those of the namespace."""
        return self.home.status()

    def kill(self, pid: object, number: signal.Signals) -> None:
        """Signal a process of the namespace by its pid in there."""
        assert isinstance(pid, int)
        assert self.run("kill", f"-{int(number)}", str(pid)).code == 0

    def exists(self, pid: object) -> bool:
        """Return whether a pid of the namespace is still in use."""
        return self.run("test", "-d", f"/proc/{pid}").code == 0

    def close(self) -> None:
        """End the namespace's first process; the kernel ends all others in it."""
        if self.init:
            os.kill(self.init, signal.SIGKILL)
            self.init = 0
        self._outer.wait(timeout=20)

    def _found(self) -> bool:
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        self.init = int(children[0]) if children else 0
        return bool(children)
