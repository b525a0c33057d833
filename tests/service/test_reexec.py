"""Another program takes the place of a service's daemon, on a real systemd user manager."""

import signal
import sys
from pathlib import Path

from tests.fakes.home import until
from tests.fakes.installed import PATIENCE_S, answers, drop_in, install, qwenctl, until_ready, write_config
from tests.fakes.manager import Manager
from tests.fakes.reexec_load import programs


def test_the_service_goes_on_with_its_pid_its_socket_its_server_and_its_watchdog(manager: Manager) -> None:
    write_config(manager)
    drop_in(manager, "WatchdogSec=3s\nRestartSec=100ms")
    install(manager)
    before = manager.status()
    done = qwenctl(manager, "reexec")
    after = manager.status()
    assert done["child_kept"] is True
    assert [after[name] for name in ("daemon_pid", "pid")] == [before[name] for name in ("daemon_pid", "pid")]
    assert answers(manager)
    assert manager.show("ActiveState") == "active", "the reload has ended"
    fed = int(manager.show("WatchdogTimestampMonotonic"))
    until(lambda: int(manager.show("WatchdogTimestampMonotonic")) > fed + 3_500_000, within=PATIENCE_S)

    files = programs(manager.home.path)
    refused = manager.qwenctl("reexec", "--program", str(files["fails at once"]))
    assert refused.code == 1
    assert manager.status()["daemon_pid"] == before["daemon_pid"]

    again = qwenctl(manager, "service", "install", "--user", "--reexec")
    assert "the server kept its model" in str(again["changes"])
    assert manager.status()["pid"] == before["pid"]
    assert manager.show("NRestarts") == "0"

    undone = manager.qwenctl("reexec", "--program", str(files["fails after the preflight"]))
    assert undone.code == 1, undone
    until_ready(manager, not_daemon=before["daemon_pid"])
    assert manager.show("NRestarts") == "1", "the manager starts it again, and no guard does"
    assert manager.show("MainPID") == str(manager.status()["daemon_pid"])
    assert answers(manager)

    first = manager.status()
    manager.kill(first["daemon_pid"], signal.SIGKILL)
    until_ready(manager, not_daemon=first["daemon_pid"])
    assert qwenctl(manager, "down") == {"changed": True}
    assert manager.show("ActiveState") == "inactive"


def test_the_default_program_is_the_one_of_the_unit(manager: Manager) -> None:
    write_config(manager)
    install(manager)
    unit = (manager.home.path / ".config/systemd/user/qwenctl.service").read_text()
    assert f"{Path(sys.executable)} -P -m qwenctl" in unit.replace('"', "")
