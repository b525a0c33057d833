"""The steps of an install of the machine's service, on a systemctl that only remembers."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from qwenctl.errors import ControlError, ExitCode, QwenctlError
from qwenctl.service import linger, units
from qwenctl.service.command import Ran, run
from qwenctl.service.places import Places
from qwenctl.service.systemd import Systemd


class FakeSystemd:
    """systemctl and its neighbours, as far as states and exit codes go."""

    def __init__(self) -> None:
        self.enabled: set[str] = set()
        self.active: set[str] = set()
        self.users: set[str] = set()
        self.asked: list[str] = []
        self.refuse: dict[str, Ran] = {}
        self.status = "0"

    def run(self, words: Sequence[str]) -> Ran:  # noqa: C901 - one case a verb
        words = [word for word in words if word not in ("systemctl", "--system", "--now")]
        verb, units = words[0], set(words[1:])
        self.asked.append(" ".join(words))
        if verb in self.refuse:
            return self.refuse[verb]
        match verb:
            case "getent":
                return Ran(0 if words[2] in self.users else 2, "", "")
            case "systemd-sysusers":
                self.users.add(words[2].split()[1])
            case "is-enabled":
                return Ran(0, "enabled" if units <= self.enabled else "disabled", "")
            case "is-active":
                return Ran(0, "active" if units <= self.active else "inactive", "")
            case "enable":
                self.enabled |= units
            case "disable":
                self.enabled -= units
                self.active -= units
            case "start" | "restart":
                self.active |= units
            case "stop":
                self.active -= units
            case "show":
                return Ran(0, f"Result=exit-code\nExecMainStatus={self.status}", "")
            case _:
                pass
        return Ran(0, "", "")

    def did(self) -> list[str]:
        looks = ("is-", "show", "getent", "reset-failed")
        return [words for words in self.asked if not words.startswith(looks)]


@pytest.fixture
def fake() -> FakeSystemd:
    """A systemd with nothing in it."""
    return FakeSystemd()


@pytest.fixture
def systemd(tmp_path: Path, fake: FakeSystemd) -> Systemd:
    """The machine's service, in a folder of the test's."""
    units = tmp_path / "system"
    where = Places(
        "systemd", "system", units / "qwenctl.service", units / "qwenctl.socket", tmp_path, tmp_path / "state"
    )
    return Systemd(where, fake.run)


def test_the_socket_listens_before_the_service_starts(systemd: Systemd, fake: FakeSystemd) -> None:
    changes = systemd.install("unit", "socket", start=True)
    assert fake.did() == [
        f'systemd-sysusers --inline u qwenctl - "qwenctl" {systemd.places.state}',
        "daemon-reload",
        "enable qwenctl.service",
        "enable qwenctl.socket",
        "start qwenctl.socket",
        "start qwenctl.service",
    ]
    assert len(changes) == 7
    fake.asked.clear()
    assert systemd.install("unit", "socket", start=True) == []
    assert fake.did() == []


def test_a_new_text_restarts_the_service_and_leaves_its_socket_open(
    systemd: Systemd, fake: FakeSystemd
) -> None:
    systemd.install("unit", "socket", start=True)
    fake.asked.clear()
    changes = systemd.install("other", "socket", start=True)
    assert fake.did() == ["daemon-reload", "restart qwenctl.service"]
    assert changes == [f"replaced {systemd.places.service}", "restarted qwenctl.service"]


def test_only_a_socket_unit_that_is_active_listens(systemd: Systemd) -> None:
    assert systemd.listening() is None
    systemd.install("unit", "[Socket]\nListenStream=127.0.0.1:8080\n", start=True)
    assert systemd.listening() == units.listening("localhost", 8080)
    systemd.stop()
    assert systemd.listening() is None


def test_another_port_moves_the_socket(systemd: Systemd, fake: FakeSystemd) -> None:
    systemd.install("unit", "socket", start=True)
    fake.asked.clear()
    systemd.install("unit", "elsewhere", start=True)
    assert fake.did() == [
        "daemon-reload",
        "stop qwenctl.service qwenctl.socket",
        "start qwenctl.socket",
        "start qwenctl.service",
    ]


def test_a_socket_that_is_wanted_no_longer_goes(systemd: Systemd, fake: FakeSystemd) -> None:
    systemd.install("unit", "socket", start=True)
    assert f"removed {systemd.places.socket}" in systemd.install("unit", None, start=True)
    assert fake.enabled == {"qwenctl.service"}


def test_uninstall_stops_the_socket_first(systemd: Systemd, fake: FakeSystemd) -> None:
    systemd.install("unit", "socket", start=True)
    fake.asked.clear()
    assert len(systemd.uninstall()) == 4
    assert fake.did() == ["disable qwenctl.socket", "disable qwenctl.service", "daemon-reload"]
    assert systemd.uninstall() == []


def test_without_a_systemd_nothing_is_written(systemd: Systemd, fake: FakeSystemd) -> None:
    fake.refuse["show"] = Ran(1, "", "Failed to connect to bus: No medium found")
    with pytest.raises(ControlError, match="cannot reach systemd"):
        systemd.install("unit", None, start=True)
    assert not systemd.places.service.exists()


def test_a_service_that_ends_for_a_setting_is_told_as_such(systemd: Systemd, fake: FakeSystemd) -> None:
    fake.refuse["start"] = Ran(1, "", "Job failed")
    fake.status = "2"
    with pytest.raises(QwenctlError) as refused:
        systemd.install("unit", None, start=True)
    assert refused.value.exit_code == ExitCode.USAGE
    fake.status = "1"
    with pytest.raises(ControlError, match="exit code 1"):
        systemd.start()


def test_lingering_is_enabled_once(tmp_path: Path) -> None:
    asked = []

    def enabling(words: Sequence[str]) -> Ran:
        asked.append(words)
        (tmp_path / linger.user()).touch()
        return Ran(0, "", "")

    assert linger.enable(enabling, tmp_path) == [f"enabled lingering for {linger.user()}"]
    assert linger.enable(enabling, tmp_path) == []
    assert asked == [("loginctl", "enable-linger", linger.user())]


def test_a_missing_program_is_a_clear_error() -> None:
    with pytest.raises(ControlError, match="cannot run no-such-systemctl: not found"):
        run(("no-such-systemctl",))
