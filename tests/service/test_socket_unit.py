"""The socket unit on a real systemd user manager: while qwenctl itself restarts, nobody is refused."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.fakes.home import free_port, until
from tests.fakes.installed import (
    PATIENCE_S,
    QUESTION,
    answers,
    drop_in,
    install,
    qwenctl,
    until_ready,
    write_config,
)
from tests.fakes.manager import Manager

RESTARTS = 4


class Crowd:
    """Clients that ask and ask: half of them on fresh connections, half on one they keep."""

    def __init__(self, port: int) -> None:
        self.codes: list[int] = []
        self.errors: list[str] = []
        self.answered = [0, 0, 0, 0]
        self._url = f"http://127.0.0.1:{port}/v1/chat/completions"
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(4)]

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask while the context is open."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in self._threads:
                thread.join(PATIENCE_S)

    def all_answered(self) -> None:
        """Wait until every client has had an answer to a question it asked from now on."""
        before = list(self.answered)
        until(
            lambda: all(now > then + 1 for now, then in zip(self.answered, before, strict=True)), PATIENCE_S
        )

    def _ask(self, number: int) -> None:
        keeps = number % 2 == 0
        with httpx.Client(timeout=PATIENCE_S) as kept:
            while not self._done.is_set():
                try:
                    answer = (kept if keeps else httpx).post(self._url, json=QUESTION, timeout=PATIENCE_S)
                except httpx.HTTPError as error:
                    self.errors.append(f"client {number}: {error!r}")
                    continue
                self.codes.append(answer.status_code)
                self.answered[number] += 1


def test_no_connection_is_refused_while_the_daemon_itself_restarts(manager: Manager) -> None:
    write_config(manager)
    drop_in(manager, "RestartSec=1s")
    install(manager)
    assert f"active, running, 127.0.0.1:{manager.home.port}" in socket_of(manager)
    crowd = Crowd(manager.home.port)
    with crowd.asking():
        crowd.all_answered()
        for _ in range(RESTARTS):
            before = manager.status()["daemon_pid"]
            assert manager.systemctl("restart", "qwenctl.service").code == 0
            until_ready(manager, not_daemon=before)
            crowd.all_answered()
    assert crowd.errors == []
    assert set(crowd.codes) == {200}
    assert len(crowd.codes) >= 20

    before = manager.status()["daemon_pid"]
    manager.kill(before, signal.SIGKILL)
    until(lambda: manager.show("ActiveState") == "activating", within=PATIENCE_S)
    assert answers(manager)
    assert manager.status()["daemon_pid"] != before
    assert manager.show("NRestarts") == "1"


def socket_of(manager: Manager) -> str:
    """What ``service status`` says of the socket unit."""
    known = qwenctl(manager, "service", "status", "--user")["known"]
    assert isinstance(known, dict)
    return str(known["Socket"])


def test_down_stays_down_and_up_brings_both(manager: Manager) -> None:
    write_config(manager)
    install(manager)
    assert qwenctl(manager, "down") == {"changed": True}
    assert manager.systemctl("is-active", "qwenctl.socket", "qwenctl.service").out == "inactive\ninactive"
    assert not connects(manager.home.port)
    assert manager.show("ActiveState") == "inactive"
    assert qwenctl(manager, "down") == {"changed": False}
    assert qwenctl(manager, "up")["changed"] is True
    assert manager.systemctl("is-active", "qwenctl.socket", "qwenctl.service").out == "active\nactive"
    assert answers(manager)

    manager.systemctl("stop", "qwenctl.service", "qwenctl.socket")
    manager.systemctl("start", "qwenctl.service")  # by hand: its socket comes with it
    until_ready(manager)
    assert manager.systemctl("is-active", "qwenctl.socket").out == "active"
    assert qwenctl(manager, "service", "uninstall", "--user")["changed"] is True
    assert not connects(manager.home.port)
    assert manager.systemctl("list-units", "--all", "qwenctl*", "--no-legend").out == ""


def test_both_start_by_themselves_after_a_power_cut(manager: Manager) -> None:
    write_config(manager)
    install(manager)
    manager.close()
    again = Manager(manager.home)
    try:
        assert again.systemctl("is-active", "qwenctl.socket", "qwenctl.service").out == "active\nactive"
        assert answers(again)
    finally:
        again.close()


def connects(port: int) -> bool:
    """Return whether somebody answers there; whoever waits there in vain is turned away in the end."""
    try:
        httpx.get(f"http://127.0.0.1:{port}/health", timeout=5)
    except httpx.TransportError:
        return False
    return True


def test_the_settings_have_the_last_word_on_the_port(manager: Manager) -> None:
    write_config(manager)
    install(manager)
    old, manager.home.port = manager.home.port, free_port()
    write_config(manager)
    until(lambda: troubles(manager), within=PATIENCE_S)
    (trouble,) = troubles(manager)
    assert trouble.startswith(
        f"the socket unit listens on 127.0.0.1:{old}, not on 127.0.0.1:{manager.home.port}; "
    )
    assert answers(manager)
    assert not connects(old), "nobody is kept waiting there"
    assert f"warning: {trouble}" in manager.qwenctl("up").err
    before = manager.status()
    assert "its files differ" in manager.qwenctl("service", "status", "--user").out

    assert install(manager)["changed"] is True
    assert manager.status()["daemon_pid"] != before["daemon_pid"]
    assert troubles(manager) == []
    assert f"127.0.0.1:{manager.home.port}" in socket_of(manager)
    assert answers(manager)

    write_config(manager, "[gate]\nallow_open = true", server='host = "0.0.0.0"')
    until(lambda: not valid(manager), within=PATIENCE_S)  # the old address is in the way of the new one
    assert answers(manager), "the old gate goes on"
    assert manager.systemctl("stop", "qwenctl.service").code == 0
    assert install(manager)["changed"] is True
    assert f"0.0.0.0:{manager.home.port}" in socket_of(manager)
    assert answers(manager)

    write_config(manager, "[gate]\nenabled = false")
    until(lambda: not valid(manager), within=PATIENCE_S)
    assert answers(manager), "the old gate goes on"
    assert install(manager)["changed"] is True
    assert not (manager.home.path / ".config/systemd/user/qwenctl.socket").exists()
    assert answers(manager)


def troubles(manager: Manager) -> list[str]:
    said = manager.status().get("troubles")
    assert isinstance(said, list)
    return said


def valid(manager: Manager) -> bool:
    config = manager.status()["config"]
    return isinstance(config, dict) and bool(config["valid"])


def test_a_wrong_setting_is_not_tried_for_ever_by_who_waits(manager: Manager) -> None:
    write_config(manager)
    drop_in(manager, "TriggerLimitBurst=2", kind="socket")
    qwenctl(manager, "service", "install", "--user", "--wait")
    write_config(manager, "nonsense = 1")
    manager.systemctl("restart", "qwenctl.service")
    until(lambda: manager.show("ActiveState") == "failed", within=PATIENCE_S)
    assert not connects(manager.home.port)
    until(lambda: manager.systemctl("is-active", "qwenctl.socket").out == "failed", within=PATIENCE_S)
    assert manager.show("ActiveState") == "failed"
    write_config(manager)
    assert qwenctl(manager, "up")["changed"] is True
    assert answers(manager)


def test_nothing_is_installed_beside_a_daemon_that_is_no_service(manager: Manager) -> None:
    write_config(manager)
    assert manager.qwenctl("up").code == 0
    daemon = manager.status()["daemon_pid"]
    ran = manager.qwenctl("service", "install", "--user")
    assert ran.code == 1
    assert f"a daemon that is no service already runs in {manager.home.state} (pid {daemon})" in ran.err
    assert not (manager.home.path / ".config/systemd").exists()
    assert qwenctl(manager, "down") == {"changed": True}
    install(manager, "--no-socket")
    assert not (manager.home.path / ".config/systemd/user/qwenctl.socket").exists()
    assert answers(manager)
    assert install(manager)["changes"] != []  # the socket unit, now
    assert "active, running" in socket_of(manager)
