"""Install and control a service of systemd. A second run of any step changes nothing."""

from dataclasses import dataclass
from pathlib import Path

from qwenctl.errors import ControlError, ExitCode, QwenctlError
from qwenctl.service import installed_files, units
from qwenctl.service.command import Run
from qwenctl.service.places import NAME, SYSTEM_USER, Places, journal
from qwenctl.service.service_state import ServiceState, of_unit

SHOWN = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "MainPID",
    "NRestarts",
    "StatusText",
    "Result",
    "ExecMainStatus",
    "ActiveEnterTimestamp",
)
SHOWN_OF_SOCKET = ("ActiveState", "SubState", "Listen")


@dataclass(frozen=True, slots=True)
class Systemd:
    """The systemd of one scope. ``run`` runs its programs."""

    places: Places
    run: Run

    def version(self) -> int:
        """Return the version of the installed systemd.

        Raises:
            ControlError: there is no systemd.
        """
        return units.version(self.run(("systemctl", "--version")).out)

    def install(self, service: str, socket: str | None, *, start: bool) -> list[str]:
        """Install or update both units, enable them and start them. Return the changes.

        Raises:
            ControlError: systemd refuses, or the service ends at once.
        """
        self._check_reachable()
        changes = self._make_user() if self.places.scope == "system" else []
        listening = [self._socket] if socket is not None else []
        wrote_socket = []
        if self.places.socket is not None:
            if socket is None:
                changes += self._drop(self.places.socket)
            else:
                wrote_socket = installed_files.write(self.places.socket, socket)
        wrote_service = installed_files.write(self.places.service, service)
        if wrote_socket or wrote_service:
            self._systemctl("daemon-reload")
        changes += wrote_service + wrote_socket
        for unit in (self._service, *listening):
            changes += self._enable(unit)
        if start:
            changes += self._bring_up(listening, service=bool(wrote_service), socket=bool(wrote_socket))
        return changes

    def write(self, service: str, socket: str | None) -> list[str]:
        """Install or update both units. What runs goes on, and gets what they say at its next start.

        Raises:
            ControlError: systemd refuses.
        """
        return self.install(service, socket, start=False)

    def uninstall(self) -> list[str]:
        """Stop and remove both units. Return the changes.

        Raises:
            ControlError: systemd refuses.
        """
        both = [path for path in (self.places.socket, self.places.service) if path is not None]
        if not any(path.exists() for path in both):
            return []
        changes = [change for path in both for change in self._drop(path)]
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", *(path.name for path in both), ok=(0, 1, 5))
        return changes

    def start(self) -> None:
        """Start the service, and its socket if it has one. Returns when the service is ready.

        Raises:
            ControlError: the service ends before it is ready.
        """
        self._check_reachable()
        self._systemctl("reset-failed", self._service, ok=(0, 1, 5))
        if self.places.socket is not None and self.places.socket.exists():
            self._start(self._socket)
        self._start(self._service)

    def stop(self) -> bool:
        """Stop the socket and the service; return whether one of them was running.

        Raises:
            ControlError: systemd refuses.
        """
        self._check_reachable()
        both = [
            path.name
            for path in (self.places.socket, self.places.service)
            if path is not None and path.exists() and self._active(path.name) != "inactive"
        ]
        if both:
            self._systemctl("stop", *both)
        return bool(both)

    def restart(self) -> None:
        """Restart the service. Its socket keeps listening.

        Raises:
            ControlError: the service ends before it is ready.
        """
        self._check_reachable()
        self._start(self._service, verb="restart")

    def look(self) -> ServiceState:
        """Return the service's state, with its socket's in one line."""
        properties = self._show(self._service, SHOWN)
        if self.places.socket is not None and self.places.socket.exists():
            socket = self._show(self._socket, SHOWN_OF_SOCKET)
            properties["Socket"] = ", ".join(socket[name] for name in SHOWN_OF_SOCKET if socket.get(name))
        return of_unit(properties)

    def listening(self) -> str | None:
        """Return the address that the socket unit listens on now."""
        text = installed_files.current(self.places.socket) if self.places.socket is not None else None
        return units.listens_on(text) if text is not None and self._active(self._socket) == "active" else None

    # How it is done.

    @property
    def _service(self) -> str:
        return f"{NAME}.service"

    @property
    def _socket(self) -> str:
        return f"{NAME}.socket"

    def _bring_up(self, listening: list[str], *, service: bool, socket: bool) -> list[str]:
        changes = []
        if socket and self._active(self._socket) == "active":
            self._systemctl("stop", self._service, self._socket)
        for unit in listening:
            if self._active(unit) != "active":
                if self._active(self._service) == "active":
                    self._systemctl("stop", self._service)  # the service itself listens on the port
                self._start(unit)
                changes.append(f"started {unit}")
        state = self._active(self._service)
        if state == "active" and service:
            self._start(self._service, verb="restart")
            changes.append(f"restarted {self._service}")
        elif state != "active":
            self._systemctl("reset-failed", self._service, ok=(0, 1, 5))
            self._start(self._service)
            changes.append(f"started {self._service}")
        return changes

    def _start(self, unit: str, verb: str = "start") -> None:
        result = self.run(self._words(verb, unit))
        if result.code == 0:
            return
        properties = self._show(unit, SHOWN)
        if properties.get("ExecMainStatus") == str(int(ExitCode.USAGE)):
            error = QwenctlError(f"cannot {verb} {unit}: a setting is wrong", hint=self._journal_hint())
            error.exit_code = ExitCode.USAGE
            raise error
        why = properties.get("Result", "unknown")
        if "ExecMainStatus" in properties:
            why += f", exit code {properties['ExecMainStatus']}"
        raise ControlError(f"cannot {verb} {unit}: {why}", hint=self._journal_hint())

    def _show(self, unit: str, names: tuple[str, ...]) -> dict[str, str]:
        output = self._systemctl("show", "--property", ",".join(names), unit)
        return dict(line.partition("=")[::2] for line in output.splitlines() if "=" in line)

    def _journal_hint(self) -> str:
        return f"{journal(self.places.scope)} -n 20 shows its log"

    def _enable(self, unit: str) -> list[str]:
        if self.run(self._words("is-enabled", unit)).out == "enabled":
            return []
        self._systemctl("enable", unit)
        return [f"enabled {unit}"]

    def _drop(self, path: Path) -> list[str]:
        if not path.exists():
            return []
        self._systemctl("disable", "--now", path.name)
        return [f"stopped and disabled {path.name}", *installed_files.remove(path)]

    def _make_user(self) -> list[str]:
        if self.run(("getent", "passwd", SYSTEM_USER)).code == 0:
            return []
        line = f'u {SYSTEM_USER} - "qwenctl" {self.places.state}'
        result = self.run(("systemd-sysusers", "--inline", line))
        if result.code != 0:
            raise ControlError(f"cannot create user {SYSTEM_USER}: {result.err.splitlines()[-1:]}")
        return [f"created user {SYSTEM_USER}"]

    def _check_reachable(self) -> None:
        """Check that systemd runs for this scope, before anything is written."""
        result = self.run(self._words("show", "--property", "Version"))
        if result.code != 0:
            cause = result.err.splitlines()[0].lower() if result.err else f"exit code {result.code}"
            mine = self.places.scope == "user"
            hint = "log in as the user (not with su), or set XDG_RUNTIME_DIR" if mine else "is systemd PID 1?"
            raise ControlError(f"cannot reach systemd ({self.places.scope}): {cause}", hint=hint)

    def _active(self, unit: str) -> str:
        return self.run(self._words("is-active", unit)).out

    def _words(self, *words: str) -> tuple[str, ...]:
        return ("systemctl", f"--{self.places.scope}", *words)

    def _systemctl(self, *words: str, ok: tuple[int, ...] = (0,)) -> str:
        result = self.run(self._words(*words))
        if result.code not in ok:
            cause = result.err.splitlines()[-1].lower() if result.err else f"exit code {result.code}"
            raise ControlError(f"cannot {words[0]} {' '.join(words[1:])}: {cause}")
        return result.out
