"""Keys of the environment: they are asked for, sent by our own commands, and told to nobody."""

import tarfile

import httpx
import psutil
import pytest

from qwenctl.daemon.gateway import check
from qwenctl.errors import SettingsError
from qwenctl.settings.types import GateSettings, ServerSettings, Settings
from tests.fakes.home import Home

ASK = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
KEYS = "open-sesame,second-sesame"


def code(endpoint: str, key: str | None = None, header: str = "Authorization") -> int:
    headers = {} if key is None else {header: f"Bearer {key}" if header == "Authorization" else key}
    return httpx.post(f"{endpoint}/chat/completions", json=ASK, headers=headers, timeout=60).status_code


def test_each_key_of_the_environment_opens_the_endpoint_and_none_is_told(home: Home) -> None:
    home.environment["QWENCTL_API_KEY"] = KEYS
    endpoint = home.up()
    assert code(endpoint) == 401
    assert code(endpoint, "third") == 401
    assert code(endpoint, "open-sesame") == 200
    assert code(endpoint, "second-sesame", "x-api-key") == 200
    assert home.status()["asks_key"] is True
    assert home.run("chat", "--thinking", "hide", "hi").code == 0
    assert home.run("check", "--mechanics").code == 0

    server, daemon = (psutil.Process(home.status()[name]) for name in ("pid", "daemon_pid"))
    assert not [name for name in server.environ() if name.startswith("QWENCTL_")]
    assert home.run("support-bundle", "--yes", "-o", "bundle.tar.gz").code == 0
    with tarfile.open(home.path / "bundle.tar.gz") as archive:
        members = [archive.extractfile(member) for member in archive if member.isfile()]
        told = [member.read().decode() for member in members if member]
    commands = ("status", "settings", "plan", "events", "logs", "doctor")
    told += [home.run("--json", command).out for command in commands]
    told += [path.read_text(errors="replace") for path in home.state.rglob("*") if path.is_file()]
    told += [" ".join(process.cmdline()) for process in (server, daemon)]
    assert not [text for text in told if "sesame" in text]


def test_a_key_of_the_environment_is_enough_to_listen_to_the_network(home: Home) -> None:
    home.environment["QWENCTL_SERVER__HOST"] = "0.0.0.0"
    refused = home.run("up", "--profile", "demo", "--port", str(home.port))
    assert refused.code == 2
    assert "QWENCTL_API_KEY" in refused.err
    home.environment["QWENCTL_API_KEY"] = KEYS
    assert code(home.up(), "open-sesame") == 200


def test_keys_of_file_and_environment_count_together(home: Home) -> None:
    keys = home.path / "keys"
    keys.write_text("filed\n")
    home.environment |= {"QWENCTL_SERVER__API_KEY_FILE": str(keys), "QWENCTL_API_KEY": "given"}
    endpoint = home.up()
    assert [code(endpoint, key) for key in ("filed", "given", "other")] == [200, 200, 401]


def test_without_the_gate_a_key_of_the_environment_is_refused_and_a_key_file_goes_to_the_server(
    home: Home,
) -> None:
    home.environment |= {"QWENCTL_GATE__ENABLED": "false", "QWENCTL_API_KEY": "given"}
    refused = home.run("up", "--profile", "demo", "--port", str(home.port))
    assert refused.code == 2
    assert refused.err.splitlines()[-2].startswith("cannot use QWENCTL_API_KEY without the gate: ")
    assert "api_key_file" in refused.err.splitlines()[-1]
    assert home.status() == {}
    keys = home.path / "keys"
    keys.write_text("filed\n")
    assert home.run("up", QWENCTL_SERVER__API_KEY_FILE=str(keys)).code == 2
    home.environment["QWENCTL_SERVER__API_KEY_FILE"] = "~/keys"
    home.environment["QWENCTL_API_KEY"] = "filed"  # as its clients may have it
    endpoint = home.up()
    assert (code(endpoint), code(endpoint, "filed")) == (401, 200)
    assert home.status()["asks_key"] is True
    assert "--api-key-file" in psutil.Process(home.status()["pid"]).cmdline()


def test_an_empty_variable_starts_nothing(home: Home) -> None:
    home.environment["QWENCTL_API_KEY"] = ""
    ran = home.run("up", "--profile", "demo", "--port", str(home.port))
    assert ran.code == 2
    assert "QWENCTL_API_KEY: it holds no key" in ran.err
    assert home.status() == {}


def test_a_key_that_a_running_daemon_never_heard_of_is_pointed_out(home: Home) -> None:
    endpoint = home.up()
    assert home.status()["asks_key"] is False
    again = home.run("up", QWENCTL_API_KEY="late")
    assert "warning: the daemon was started without QWENCTL_API_KEY and asks for no key" in again.err
    assert "late" not in again.err + again.out
    assert code(endpoint) == 200


def test_another_server_is_not_sent_the_key(home: Home) -> None:
    """The key is our daemon's; a stranger named by --url hears it only from --api-key-file."""
    home.environment["QWENCTL_API_KEY"] = "given"
    endpoint = home.up()
    ran = home.run("chat", "--url", endpoint, "hi")
    assert ran.code == 1
    assert "HTTP 401" in ran.err


@pytest.mark.parametrize("gate", [True, False])
def test_the_network_needs_a_key_with_the_gate_and_without(gate: bool) -> None:  # noqa: FBT001 - a case
    settings = Settings(server=ServerSettings(host="0.0.0.0"), gate=GateSettings(enabled=gate))
    with pytest.raises(SettingsError, match="anyone on the network"):
        check(settings, ())
