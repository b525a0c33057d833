"""The unit files: rendered as stored here, quoted so that systemd reads the same words back."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenctl import paths
from qwenctl.service import units

STORED = Path(__file__).parent / "stored"
UNIT = units.Unit(
    command=("/opt/qwenctl/bin/python", "-P", "-m", "qwenctl", "run"),
    systemd=252,
    environment=(("PATH", "/opt/qwenctl/bin:/usr/bin"), ("HF_HOME", "/data/50% of it/hf")),
    credentials=(("QWENCTL_SERVER__API_KEY_FILE", "/etc/qwenctl/keys"),),
    folders=("/opt/qwenctl", "/home/ada/models"),
    writable=("/data/50% of it/hf",),
    groups=("render", "video"),
)
RENDERED = {
    "user-252.service": ("user", UNIT),
    "system-252.service": ("system", UNIT),
    "system-256.service": (
        "system",
        replace(UNIT, systemd=256, folders=("/opt/qwenctl",), groups=(), socket=True),
    ),
    "system-245.service": ("system", replace(UNIT, systemd=245)),
}
SECURITY_GOAL = 30
"""Tenths; the goal is an exposure of 3.0."""
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing"
)


def template(name: str) -> str:
    return (paths.data_root() / "systemd" / name).read_text()


def rendered(scope: str, unit: units.Unit) -> str:
    return units.service(template(f"qwenctl-{scope}.service"), unit)


def socket_unit(host: str = "127.0.0.1", port: int = 8080) -> str | None:
    return units.socket(template("qwenctl.socket"), host, port)


def analyzed(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", RENDERED)
def test_a_unit_is_the_stored_one(name: str) -> None:
    assert rendered(*RENDERED[name]) == (STORED / name).read_text()


def test_the_socket_unit_is_the_stored_one() -> None:
    assert socket_unit() == (STORED / "qwenctl.socket").read_text()


@pytest.mark.parametrize(
    ("host", "listen"),
    [
        ("127.0.0.1", "127.0.0.1:9000"),
        ("localhost", "127.0.0.1:9000"),
        ("::1", "[::1]:9000"),
        ("0.0.0.0", "0.0.0.0:9000"),
        ("::", "[::]:9000"),
        ("box.lan", None),
    ],
)
def test_a_socket_unit_listens_where_the_settings_say(host: str, listen: str | None) -> None:
    text = socket_unit(host, 9000)
    assert (units.listens_on(text) if text else None) == listen


def test_every_key_that_an_older_systemd_would_warn_of_is_left_out() -> None:
    keys = {line.partition("=")[0] for line in rendered("system", replace(UNIT, systemd=230)).splitlines()}
    assert keys.isdisjoint(units.SINCE)
    newest = {line.partition("=")[0] for line in rendered("system", replace(UNIT, systemd=999)).splitlines()}
    assert newest >= set(units.SINCE)


def test_a_permanent_fault_is_never_restarted_by_systemd() -> None:
    for scope in ("user", "system"):
        lines = rendered(scope, UNIT).splitlines()
        assert "RestartPreventExitStatus=2" in lines
        assert "Restart=on-failure" in lines


@needs_analyze
@pytest.mark.parametrize("scope", ["user", "system"])
def test_systemd_verifies_both_units(scope: str, tmp_path: Path) -> None:
    known = units.version(analyzed("--version").stdout)
    here = replace(UNIT, command=("/bin/true", "run"), systemd=known, socket=True)
    (tmp_path / "qwenctl.service").write_text(rendered(scope, here))
    (tmp_path / "qwenctl.socket").write_text(socket_unit() or "")
    done = analyzed("verify", "--man=no", *sorted(str(path) for path in tmp_path.iterdir()))
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
def test_the_system_unit_is_exposed_to_little(tmp_path: Path) -> None:
    unit = tmp_path / "qwenctl.service"
    unit.write_text(rendered("system", UNIT))
    done = analyzed("security", "--offline=yes", f"--threshold={SECURITY_GOAL}", "--no-pager", str(unit))
    assert done.returncode == 0, done.stdout[-300:]


def unquoted(text: str) -> str:
    """What systemd.syntax(7) and systemd.service(5) make of one quoted word of a command line."""
    if text.startswith('"'):
        text = text[1:-1]
        for escape, meant in (('\\"', '"'), ("\\n", "\n"), ("\\\\", "\\")):
            text = text.replace(escape, {"\\\\": "\0"}.get(escape, meant))
        text = text.replace("\0", "\\")
    return text.replace("%%", "%").replace("$$", "$")


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("ab %$\"'\\/é;=#~*"), min_size=1, max_size=12).map(
        lambda text: "/" + text
    )
)
def test_systemd_reads_back_the_word_that_was_meant(word: str) -> None:
    line = next(
        line for line in rendered("user", replace(UNIT, command=(word,))).splitlines() if "ExecStart=" in line
    )
    assert unquoted(line.removeprefix("ExecStart=")) == word
