"""The service on a real systemd user manager: it starts, comes back, and goes without a trace.

Each test is a story with one manager, since the manager and the server cost more than what is asked of them.
"""

import signal

from tests.fakes.home import until
from tests.fakes.installed import PATIENCE_S, answers, drop_in, install, qwenctl, until_ready, write_config
from tests.fakes.manager import Manager


def test_it_is_installed_once_survives_kills_and_goes_without_a_trace(manager: Manager) -> None:
    write_config(manager)
    drop_in(manager, "RestartSec=100ms")
    first = install(manager)
    assert first["changed"] is True
    assert answers(manager)
    assert "ready, demo" in manager.show("StatusText")
    before = manager.status()
    assert install(manager) == first | {"changed": False, "changes": []}
    assert manager.status()["daemon_pid"] == before["daemon_pid"]
    assert "active" in manager.qwenctl("service", "status", "--user").out

    manager.kill(before["pid"], signal.SIGKILL)
    until_ready(manager, not_child=before["pid"])
    assert manager.status()["daemon_pid"] == before["daemon_pid"]
    assert manager.show("NRestarts") == "0"

    before = manager.status()
    manager.kill(before["daemon_pid"], signal.SIGKILL)
    until_ready(manager, not_daemon=before["daemon_pid"])
    assert not manager.exists(before["pid"])
    assert manager.show("NRestarts") == "1"
    assert answers(manager)

    after = manager.status()
    assert qwenctl(manager, "service", "uninstall", "--user")["changed"] is True
    assert not manager.exists(after["daemon_pid"])
    assert not manager.exists(after["pid"])
    assert left_behind(manager) == set()
    assert qwenctl(manager, "service", "uninstall", "--user")["changed"] is False


def planned(manager: Manager) -> tuple[object, ...]:
    """What is being served."""
    plan = manager.status()["plan"]
    assert isinstance(plan, dict)
    return plan["profile"], plan["quant"], plan["context_tokens"]


def left_behind(manager: Manager) -> set[str]:
    """Every file of the home but models, settings, caches and what is the test's own."""
    home = manager.home.path
    files = (str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    known = (".cache/", ".config/qwenctl/", ".config/systemd/user/qwenctl.service.d/", "systemd.log")
    return {path for path in files if not path.startswith(known)}


def test_the_watchdog_replaces_a_daemon_that_stands_still_and_leaves_others_alone(manager: Manager) -> None:
    write_config(manager)
    drop_in(manager, "WatchdogSec=3s\nRestartSec=100ms")
    install(manager)
    fed = int(manager.show("WatchdogTimestampMonotonic"))
    until(lambda: int(manager.show("WatchdogTimestampMonotonic")) > fed + 3_500_000, within=PATIENCE_S)
    assert manager.show("NRestarts") == "0"

    before = manager.status()
    manager.kill(before["daemon_pid"], signal.SIGSTOP)
    until_ready(manager, not_daemon=before["daemon_pid"])
    assert manager.show("NRestarts") == "1"
    assert not manager.exists(before["pid"])


def test_it_reloads_parks_and_refuses_without_restarts(manager: Manager) -> None:
    write_config(manager, "nonsense = 1")
    assert manager.qwenctl("service", "install", "--user").code == 2
    assert not (manager.home.path / ".config/systemd").exists()

    lost = manager.home.path / "llama-server"
    write_config(manager, server=f'binary = "{lost}"')
    ran = manager.qwenctl("service", "install", "--user", "--wait")
    assert ran.code == 5, ran
    assert f"cannot use llama-server {lost}: no such file" in ran.err
    parked = manager.status()
    assert (parked["phase"], manager.show("ActiveState")) == ("failed", "active")
    assert manager.show("StatusText").startswith("failed, ")
    write_config(manager)
    until_ready(manager)

    before = manager.status()
    assert before["daemon_pid"] == parked["daemon_pid"]
    write_config(manager, "[context]\ntokens = 1024")
    assert manager.systemctl("reload", "qwenctl.service").code == 0
    until_ready(manager, not_child=before["pid"])
    assert manager.status()["daemon_pid"] == before["daemon_pid"]
    assert planned(manager) == ("demo", "F16", 1024)

    write_config(manager, "nonsense = 1")
    manager.systemctl("restart", "qwenctl.service")
    until(lambda: manager.show("ActiveState") == "failed", within=PATIENCE_S)
    assert (manager.show("ExecMainStatus"), manager.show("NRestarts")) == ("2", "0")


def test_up_down_and_restart_go_through_the_unit(manager: Manager) -> None:
    write_config(manager)
    manager.home.environment["QWENCTL_API_KEY"] = "sesame"
    warned = manager.qwenctl("service", "install", "--user", "--no-start")
    assert "warning: the service does not get QWENCTL_API_KEY" in warned.err
    assert "sesame" not in (manager.home.path / ".config/systemd/user/qwenctl.service").read_text()
    del manager.home.environment["QWENCTL_API_KEY"]
    assert manager.show("ActiveState") == "inactive"
    assert qwenctl(manager, "up", "--ctx", "1024")["changed"] is True
    assert manager.show("MainPID") == str(manager.status()["daemon_pid"])
    assert planned(manager) == ("demo", "F16", 1024)
    before = manager.status()
    qwenctl(manager, "restart")
    assert manager.status()["pid"] != before["pid"]
    assert qwenctl(manager, "down") == {"changed": True}
    assert manager.show("ActiveState") == "inactive"
    assert manager.status() == {}
    assert qwenctl(manager, "down") == {"changed": False}
    refused = manager.qwenctl("up", "--config", str(manager.home.path / ".config/qwenctl/config.toml"))
    assert refused.code == 2
    assert "the installed service has its own config file" in refused.err
    qwenctl(manager, "restart", "--no-wait")
    assert manager.show("ActiveState") == "active"
