"""Start, stop and restart the daemon through its service, where one is installed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qwenctl.cli.output import Session
from qwenctl.control.state_dir import LAUNCHD_LOG, running
from qwenctl.errors import AlreadyRunningError, ControlError, ExitCode, QwenctlError, SettingsError
from qwenctl.service import units
from qwenctl.service.install import Service, service_of
from qwenctl.service.launchctl_print import PrintedJob
from qwenctl.service.places import Places, all_of_launchd, installed
from qwenctl.service.service_state import ServiceState, ended_since, of_job

if TYPE_CHECKING:
    from qwenctl.engine.address import Address


LOOK_EVERY_S, POLL_S = 0.4, 0.05
ENDING_S = 5.0
SAID_BYTES = 4096
"""How much of the end of what a daemon printed may hold the reason of its end."""


class ManagedStart:
    """A daemon that a service manager was told to start; launchd says yes before it has started anything.

    Made before the manager is told, so that an end before that does not count. ``afresh``: the job will be
    loaded anew, where launchd counts its runs from 1 again, so that each of them counts.
    """

    def __init__(
        self, where: Places, clock: Callable[[], float] = time.monotonic, *, afresh: bool = False
    ) -> None:
        self._where, self._found, self._clock = where, service_of(where), clock
        self._before: ServiceState | None = None
        if where.manager == "launchd":  # systemctl returns once it is ready, or says why not
            self._before = of_job(PrintedJob()) if afresh else self._found.look()
        self._looked_at = clock()

    def refusal(self) -> QwenctlError | None:
        """Return the error that a daemon ended with which was started since; None if none has."""
        if self._before is None or self._clock() < self._looked_at + LOOK_EVERY_S:
            return None
        self._looked_at = self._clock()
        now = self._found.look()
        if not ended_since(self._before, now):
            return None
        return refusal_of(now, _said(Path(now.known.get("stdout path", self._where.logs / LAUNCHD_LOG))))

    def end(self) -> QwenctlError | None:
        """Return the error of a daemon that has given its folder back: its manager soon knows of its end."""
        give_up_at = self._clock() + ENDING_S
        while self._before is not None and self._clock() < give_up_at:
            if (error := self.refusal()) is not None:
                return error
            time.sleep(POLL_S)
        return None


def refusal_of(now: ServiceState, said: str | None) -> QwenctlError:
    """Return the error for a daemon that its manager saw end. Its exit code is ours. Pure.

    ``said`` is the last error that it printed.
    """
    known = {int(code) for code in ExitCode if code != ExitCode.OK}
    code = ExitCode(now.exit_code).name.lower() if now.exit_code in known else "failed"
    because = f": {said}" if said and now.exit_code in known else ""
    message = f"cannot start the service: its daemon ended with {now.ending}{because}"
    return QwenctlError.from_code(code, message, "qwenctl logs --daemon and qwenctl service status show more")


def _said(path: Path) -> str | None:
    """Return the last error in a file of what a daemon printed."""
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, 2) - SAID_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    return next((line for line in reversed(lines) if line.startswith("cannot ")), None)


def service() -> Service | None:
    """Return the installed service of whoever asks."""
    where = installed()
    return service_of(where) if where is not None else None


def start(config: Path | None) -> ManagedStart | None:
    """Start the service; return None where none is installed.

    Raises:
        SettingsError: a config file was named; the service has its own.
        ControlError: the service manager refuses.
    """
    where = installed()
    if where is None:
        return None
    if config is not None:
        raise SettingsError(
            f"cannot use --config {config}: the installed service has its own config file",
            hint=f"qwenctl --config {config} service install changes that",
        )
    started = ManagedStart(where)
    service_of(where).start()
    return started


def restart() -> ManagedStart | None:
    """Start the service afresh; return None where none is installed.

    Raises:
        ControlError: the service manager refuses.
    """
    where = installed()
    if where is None:
        return None
    started = ManagedStart(where)
    service_of(where).restart()
    return started


def stop(session: Session) -> bool:
    """Stop the service, if one is installed; return whether it ran. A refusal is only said."""
    found = service()
    if found is None:
        return False
    try:
        return found.stop()
    except ControlError as error:
        session.say(f"note: {error.message}")
        return False


def holds_port(where: "Address") -> bool:
    """Return whether the service manager itself listens there, for the daemon that it starts."""
    found = service()
    held = found.listening() if found is not None else None
    return held is not None and held == units.listening(where.host, where.port or 0)


def check_alone(where: Places) -> None:
    """Check that no other service uses the same folders: the two would fight for them.

    Raises:
        AlreadyRunningError: there is one.
    """
    others = all_of_launchd() if where.manager == "launchd" else ()
    for other in others:
        if other.service == where.service:
            continue
        if other.of_homebrew:
            sudo = "sudo " if other.scope == "system" else ""
            hint = f"{sudo}brew services stop qwenctl removes it; or keep it: up and down use it"
        else:
            hint = f"{'sudo ' if other.scope == 'system' else ''}qwenctl service uninstall --{other.scope}"
        raise AlreadyRunningError(
            f"cannot install: there is another service of qwenctl ({other.service})", hint
        )


def check_free(where: Places, address: "Address") -> None:
    """Check, before a service is installed there, that nothing but itself is in its way.

    Raises:
        AlreadyRunningError: a daemon that is not the service's holds the folder.
        LaunchError: something else listens on the address.
    """
    found, pid = service_of(where), running(where.state)
    if pid is None:
        if not (found.listening() or "").endswith(f":{address.port}"):  # a socket unit may move
            from qwenctl.deploy.free_address import check_address

            check_address(address)
        return
    if found.look().pid != pid:
        raise AlreadyRunningError(
            f"cannot install: a daemon that is no service already runs in {where.state} (pid {pid})",
            hint="qwenctl down ends it; then install again",
        )
