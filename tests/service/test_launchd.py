"""launchd: what its property lists say, and what is done about each answer of launchctl. Not run on macOS."""

import os
import plistlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qwenctl import paths
from qwenctl.errors import ControlError
from qwenctl.service import plists
from qwenctl.service.command import Ran
from qwenctl.service.launchd import LaunchctlAnswer, Launchd, meaning
from qwenctl.service.places import BREW_LABEL, Places

DOCUMENTED: dict[str, type] = {
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Umask": int,
    "SoftResourceLimits": dict,
    "StandardOutPath": str,
    "StandardErrorPath": str,
    "UserName": str,
    "LimitLoadToSessionType": str,
}
"""Source: launchd.plist(5), the keys we use and their types."""
JOB = plists.Job(
    ("/opt/q/bin/python", "-P", "-m", "qwenctl", "--profile", "demo", "run", "--log", "/Users/ada/d.log"),
    (("PATH", "/opt/q/bin:/usr/bin"),),
    "/Users/ada/launchd.log",
)


def rendered(kind: str, job: plists.Job = JOB) -> str:
    return plists.job((paths.data_root() / f"launchd/{kind}.plist").read_bytes(), job)


@pytest.mark.parametrize("kind", ["agent", "daemon"])
def test_a_property_list_uses_documented_keys_with_their_types(kind: str) -> None:
    job = plistlib.loads(rendered(kind, plists.Job(JOB.command, JOB.environment, JOB.output, "ada")).encode())
    for key, value in job.items():
        assert type(value) is DOCUMENTED[key], key
    assert job["ProgramArguments"] == list(JOB.command)
    assert job["EnvironmentVariables"] == {"PATH": "/opt/q/bin:/usr/bin"}
    assert job["UserName"] == "ada"
    assert job["ProcessType"] in ("Background", "Standard", "Adaptive", "Interactive")


@pytest.mark.parametrize("kind", ["agent", "daemon"])
def test_a_property_list_restarts_failures_only_and_never_in_a_storm(kind: str) -> None:
    job = plistlib.loads(rendered(kind).encode())
    assert job["KeepAlive"] == {"SuccessfulExit": False}
    assert job["ThrottleInterval"] >= 60
    assert job["Umask"] == 0o077


def test_the_options_of_an_installed_job_are_read_back() -> None:
    assert plists.arguments(rendered("agent")) == ("--profile", "demo")
    for changed in ("garbage", "<plist><array/></plist>", plistlib.dumps({"Label": "qwenctl"}).decode()):
        assert plists.arguments(changed) == ()


@dataclass
class FakeLaunchd:
    """launchctl as far as its exit codes go: a job that takes its time to leave."""

    loaded: bool = False
    slow: int = 0
    codes: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    paused: int = 0
    session: bool = True
    state: str = "running\n\tpid = 7"

    def run(self, words: Sequence[str]) -> Ran:
        verb = words[1]
        self.asked.append(" ".join(words[1:]))
        if verb != "print" and self.codes.get(verb):
            return Ran(code := self.codes[verb].pop(0), "", f"{verb} failed: {code}: why")
        match verb:
            case "print" if words[2].count("/") == 1:
                return Ran(0 if self.session else 112, "", "")
            case "print":
                there = self._there()
                return Ran(0, f"x = {{\n\tstate = {self.state}\n}}", "") if there else Ran(113, "", "")
            case "bootout":
                was, self.loaded = self.loaded, False
                return Ran(0 if was else 3, "", "")
            case "bootstrap":
                if self._there():
                    return Ran(5, "", "Bootstrap failed: 5: Input/output error")
                self.loaded = True
            case _:
                pass
        return Ran(0, "", "")

    def pause(self, _seconds: float) -> None:
        self.paused += 1

    def _there(self) -> bool:
        if not self.loaded and self.slow:
            self.slow -= 1
            return True
        return self.loaded

    def verbs(self) -> list[str]:
        return [words.split()[0] for words in self.asked if not words.startswith("print")]


def launchd(tmp_path: Path, fake: FakeLaunchd) -> Launchd:
    where = Places("launchd", "user", tmp_path / "LaunchAgents/qwenctl.plist", None, tmp_path, tmp_path)
    return Launchd(where, fake.run, fake.pause)


def test_a_second_install_asks_and_changes_nothing(tmp_path: Path) -> None:
    fake = FakeLaunchd()
    job = launchd(tmp_path, fake)
    assert job.install(rendered("agent"), None, start=True)[-1] == "started qwenctl"
    me = f"gui/{os.getuid()}"
    bootstrap = f"bootstrap {me} {tmp_path}/LaunchAgents/qwenctl.plist"
    assert fake.asked[-3:] == [f"enable {me}/qwenctl", bootstrap, f"kickstart {me}/qwenctl"]
    fake.asked.clear()
    assert job.install(rendered("agent"), None, start=True) == []
    assert fake.verbs() == []


@pytest.mark.parametrize("state", ["not running\n\tlast exit code = 0", "spawn scheduled"])
def test_a_job_that_is_loaded_and_does_not_run_is_started(tmp_path: Path, state: str) -> None:
    """SIGTERM to the daemon ends it with code 0, and launchd leaves it at that."""
    fake = FakeLaunchd()
    job = launchd(tmp_path, fake)
    job.install(rendered("agent"), None, start=True)
    fake.asked.clear()
    fake.state = state
    assert job.install(rendered("agent"), None, start=False) == []
    assert fake.verbs() == []
    assert job.install(rendered("agent"), None, start=True) == ["started qwenctl"]
    assert fake.verbs() == ["kickstart"]


def test_a_changed_job_is_loaded_afresh_once_the_old_one_has_gone(tmp_path: Path) -> None:
    fake = FakeLaunchd()
    job = launchd(tmp_path, fake)
    job.install(rendered("agent"), None, start=True)
    fake.slow = 3
    fake.asked.clear()
    assert len(job.install(rendered("daemon"), None, start=True)) == 2
    assert fake.verbs() == ["bootout", "enable", "bootstrap", "kickstart"]
    assert fake.paused >= 1


def test_bootstrap_that_meets_an_old_incarnation_asks_again(tmp_path: Path) -> None:
    fake = FakeLaunchd(codes={"bootstrap": [5, 5]})
    launchd(tmp_path, fake).start()
    assert fake.loaded
    assert fake.verbs() == ["enable", *["bootstrap"] * 3, "kickstart"]


@pytest.mark.parametrize("code", [5, 112, 125])
def test_without_a_session_the_daemon_of_the_machine_is_named(tmp_path: Path, code: int) -> None:
    fake = FakeLaunchd(codes={"bootstrap": [code]}, session=False)
    with pytest.raises(ControlError, match="nobody is logged in") as refused:
        launchd(tmp_path, fake).start()
    assert "--system" in str(refused.value.hint)
    assert "after qwenctl service uninstall qwenctl up works" in str(refused.value.hint)
    assert fake.paused == 0


def test_a_session_that_takes_no_job_in_the_background_is_named(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as refused:
        launchd(tmp_path, FakeLaunchd(codes={"bootstrap": [125]})).start()
    assert "Login Items" in str(refused.value.hint)


def test_a_file_that_launchd_does_not_take_is_removed_again(tmp_path: Path) -> None:
    """Where it stays, every later up goes through a service that cannot start."""
    fake = FakeLaunchd(codes={"bootstrap": [125]}, session=False)
    job = launchd(tmp_path, fake)
    with pytest.raises(ControlError) as refused:
        job.install(rendered("agent"), None, start=True)
    assert "without a service qwenctl up works" in str(refused.value.hint)
    assert not job.places.service.exists()


def test_waiting_for_launchd_ends(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="did not load it"):
        launchd(tmp_path, FakeLaunchd(codes={"bootstrap": [5] * 99})).start()


@pytest.mark.parametrize("code", [3, 5, 112, 113, 125])
def test_stopping_what_is_not_loaded_is_done_already(tmp_path: Path, code: int) -> None:
    assert launchd(tmp_path, FakeLaunchd(loaded=True, codes={"bootout": [code]})).stop() is False


def test_restart_and_uninstall(tmp_path: Path) -> None:
    fake = FakeLaunchd()
    job = launchd(tmp_path, fake)
    job.install(rendered("agent"), None, start=True)
    job.restart()
    assert fake.asked[-1] == f"kickstart -k gui/{os.getuid()}/qwenctl"
    assert (job.look().words, job.look().pid) == ("running", 7)
    assert job.uninstall() == ["stopped qwenctl", f"removed {tmp_path}/LaunchAgents/qwenctl.plist"]
    assert job.uninstall() == []


def test_an_unknown_code_is_a_failure() -> None:
    assert meaning("bootstrap", 1) is LaunchctlAnswer.FAILED
    assert meaning("bootout", 0) is LaunchctlAnswer.DONE


def test_run_logs_to_a_file_of_its_own(tmp_path: Path) -> None:
    """As launchd runs it; a folder nobody can write ends the daemon soon."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "qwenctl",
            "--profile",
            "demo",
            "run",
            "--keep-awake",
            "--log",
            f"{tmp_path}/d.log",
        ],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "XDG_STATE_HOME": "/proc/nowhere",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert (tmp_path / "d.log").exists()


def test_the_job_of_homebrew_is_found_in_the_domain_that_ssh_gives_it(tmp_path: Path) -> None:
    """``brew services start`` over ssh loads it into user/UID; else it is in the session of the screen."""
    plist = tmp_path / f"{BREW_LABEL}.plist"
    where = Places("launchd", "user", plist, None, tmp_path, tmp_path, BREW_LABEL)
    over_ssh = FakeLaunchd(loaded=True)
    Launchd(where, over_ssh.run, over_ssh.pause).restart()
    assert over_ssh.asked[-1] == f"kickstart -k user/{os.getuid()}/{BREW_LABEL}"
    at_the_screen = FakeLaunchd()
    Launchd(where, at_the_screen.run, at_the_screen.pause).start()
    assert f"bootstrap gui/{os.getuid()} {plist}" in at_the_screen.asked


def test_only_root_changes_a_service_of_the_machine_and_everybody_may_look(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("this is root")
    fake = FakeLaunchd(loaded=True)
    where = Places("launchd", "system", tmp_path / "qwenctl.plist", None, tmp_path, tmp_path)
    job = Launchd(where, fake.run, fake.pause)
    assert job.look().running
    for verb in (job.start, job.stop, job.restart):
        with pytest.raises(ControlError, match="service of the machine"):
            verb()
    assert fake.verbs() == []
