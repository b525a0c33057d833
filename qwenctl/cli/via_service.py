"""Start, stop and restart the daemon through its service, where one is installed."""

from pathlib import Path
from typing import TYPE_CHECKING

from qwenctl.cli.output import Session
from qwenctl.control.state_dir import running
from qwenctl.errors import AlreadyRunningError, ControlError, SettingsError
from qwenctl.service import units
from qwenctl.service.install import Service, service_of
from qwenctl.service.places import Places, installed

if TYPE_CHECKING:
    from qwenctl.engine.address import Address


def service() -> Service | None:
    """Return the installed service of whoever asks."""
    where = installed()
    return service_of(where) if where is not None else None


def start(config: Path | None) -> bool:
    """Start the service; return False where none is installed.

    Raises:
        SettingsError: a config file was named; the service has its own.
        ControlError: the service manager refuses.
    """
    found = service()
    if found is None:
        return False
    if config is not None:
        raise SettingsError(
            f"cannot use --config {config}: the installed service has its own config file",
            hint=f"qwenctl --config {config} service install changes that",
        )
    found.start()
    return True


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
    known = found.look()
    if known.get("MainPID", known.get("pid")) != str(pid):
        raise AlreadyRunningError(
            f"cannot install: a daemon that is no service already runs in {where.state} (pid {pid})",
            hint="qwenctl down ends it; then install again",
        )
