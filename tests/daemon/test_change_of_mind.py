"""Whatever is on its way, the daemon hears what is said next, and the newest wish wins.

Each stage of a change is held up: the engine does not answer, the hub stalls or trickles in the middle of a
transfer, a file takes minutes to hash, a server never gets ready, the hub refuses.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fakes.deployed import RANGE, SOON, Deployed, cache_huge
from tests.fakes.home import Home, runs, until
from tests.fakes.scripted_server import behave, fake_server


@dataclass(frozen=True)
class Stage:
    """A profile whose deployment gets stuck, and the state that the status shows then."""

    profile: str
    state: str
    stall: str | None = None

    def enter(self, daemon: Deployed) -> None:
        """Make the world so that the profile gets stuck."""
        daemon.stall = self.stall
        if self.state == "planning":
            daemon.hold.touch()
            daemon.hold.with_suffix(".asked").unlink(missing_ok=True)

    def reached(self, daemon: Deployed) -> bool:
        """Return whether the newest wish is stuck where it is to be."""
        now = daemon.status()
        if now["change"]["state"] != self.state:
            return False
        if self.state == "planning":
            return daemon.hold.with_suffix(".asked").exists()
        if self.stall in ("hang", "trickle"):
            return daemon.hub.sending == 1 and daemon.arrived(self.profile) == 2
        return self.state != "fetching" or now["download"] is not None


STAGES = {
    "planning": Stage("first", "planning"),
    "a stalled transfer": Stage("first", "fetching", "hang"),
    "a trickling transfer": Stage("first", "fetching", "trickle"),
    "hashing": Stage("huge", "fetching"),
    "on trial": Stage("slow", "trial"),
    "refused": Stage("first", "refused", "404"),
}
every_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())
one_transfer = {name: stage for name, stage in STAGES.items() if stage.stall != "trickle"}
every_stage_once = pytest.mark.parametrize("stage", one_transfer.values(), ids=one_transfer.keys())


@pytest.fixture
def daemon(home: Home) -> Iterator[Deployed]:
    """A home with the stand-in server; nothing runs yet."""
    binary = fake_server(home)
    with Deployed(home, binary) as made:
        behave(binary, holds=str(made.hold), slow_model="slow.gguf")
        cache_huge(home)
        yield made


def start_up(daemon: Deployed, *arguments: str) -> subprocess.Popen[bytes]:
    """Run ``up`` beside the test: it waits until somebody decides."""
    words = [sys.executable, "-m", "qwenctl", "up", *arguments]
    return subprocess.Popen(words, env=daemon.home.environment, stderr=subprocess.DEVNULL)


def hears_edits(daemon: Deployed, stage: Stage, tokens: int) -> None:
    """Save a bad file, then a good one. Neither ends the wish that is on its way."""
    before = daemon.number()
    daemon.save('colour = "red"')
    until(lambda: not daemon.status()["config"]["valid"], SOON)
    assert "colour" in daemon.status()["config"]["error"]
    until(lambda: stage.reached(daemon), SOON)
    daemon.save(f"[context]\ntokens = {tokens}")
    until(lambda: daemon.number() >= before + 2, SOON)
    if stage.state != "planning":  # the engine has a say in whether the file is right
        until(lambda: daemon.status()["config"]["valid"], SOON)
    if stage.state == "refused":  # nothing is on its way: the file is served
        until(lambda: daemon.serves(tokens), SOON)
        daemon.wish(profile=stage.profile)
    until(lambda: stage.reached(daemon), SOON)


def has_ended(daemon: Deployed) -> None:
    """Check that the daemon has ended as it was told to, and left nothing behind."""
    until(lambda: daemon.ended() is not None, SOON)
    assert daemon.ended() == 0, daemon.log()
    assert daemon.status() == {}
    assert daemon.servers() == []
    until(lambda: daemon.hub.sending == 0, SOON)


def sent_nothing_twice(daemon: Deployed) -> None:
    """Check that no range that had arrived was asked for again, and that one transfer ran at a time."""
    assert all(start >= 2 * RANGE for start in daemon.starts_of_ranges("first-F16.gguf")[1:])
    assert daemon.hub.most_sending <= 1


@every_stage
def test_during_the_first_start_every_word_is_heard_and_another_wish_wins(
    daemon: Deployed, stage: Stage
) -> None:
    stage.enter(daemon)
    pid = daemon.start(profile=stage.profile)
    until(lambda: stage.reached(daemon), SOON)
    shown = daemon.home.json("status")["data"]
    assert shown["daemon_pid"] == pid
    assert shown["change"]["state"] == stage.state
    hears_edits(daemon, stage, 1024)
    assert daemon.home.run("restart", "--no-wait").code == 0
    until(lambda: stage.reached(daemon), SOON)
    before = daemon.number()
    up = start_up(daemon, "--profile", "demo")
    until(lambda: daemon.number() > before, SOON)
    daemon.hold.unlink(missing_ok=True)
    assert up.wait(SOON) == 0
    assert daemon.serves(1024)
    assert daemon.status()["plan"]["profile"] == "demo"
    assert daemon.status()["daemon_pid"] == pid
    assert len(daemon.servers()) == 1
    until(lambda: daemon.hub.sending == 0, SOON)
    sent_nothing_twice(daemon)


@every_stage_once
def test_beside_a_ready_server_every_word_is_heard_and_down_ends_it(daemon: Deployed, stage: Stage) -> None:
    daemon.start()
    until(lambda: daemon.serves(8192), SOON)
    served = daemon.status()["pid"]
    stage.enter(daemon)
    daemon.wish(profile=stage.profile)
    until(lambda: stage.reached(daemon), SOON)
    if stage.state != "trial":
        assert daemon.status()["ready"]
        assert daemon.status()["pid"] == served
    hears_edits(daemon, stage, 1024)
    restarted = daemon.status()["pid"]
    assert (restarted == served) == (stage.state not in ("trial", "refused"))
    assert daemon.home.run("restart", "--no-wait").code == 0
    until(lambda: daemon.status()["pid"] not in (None, restarted), SOON)
    until(lambda: stage.reached(daemon), SOON)
    before = daemon.number()
    up = start_up(daemon, "--reset")
    until(lambda: daemon.number() > before, SOON)
    daemon.hold.unlink(missing_ok=True)
    assert up.wait(SOON) == 0
    assert daemon.serves(1024)
    stage.enter(daemon)
    daemon.wish(profile=stage.profile)
    until(lambda: stage.reached(daemon), SOON)
    assert daemon.home.run("down").code == 0
    has_ended(daemon)
    sent_nothing_twice(daemon)


@every_stage_once
def test_sigterm_ends_the_first_start_wherever_it_is(daemon: Deployed, stage: Stage) -> None:
    stage.enter(daemon)
    daemon.start(profile=stage.profile)
    until(lambda: stage.reached(daemon), SOON)
    daemon.terminate()
    has_ended(daemon)


def test_a_bad_file_while_the_first_wish_is_planned_ends_nothing_and_goes_on_being_told(
    daemon: Deployed,
) -> None:
    stage = STAGES["planning"]
    stage.enter(daemon)
    daemon.start(profile="demo")
    until(lambda: stage.reached(daemon), SOON)
    daemon.save('colour = "red"')
    until(lambda: not daemon.status()["config"]["valid"], SOON)
    daemon.hold.unlink()
    until(lambda: daemon.status()["ready"], SOON)
    assert not daemon.status()["config"]["valid"]


def test_of_three_wishes_during_a_download_the_last_one_wins(home: Home) -> None:
    """On the real server. What had come of the first file is not sent again when it is wanted after all."""
    with Deployed(home) as daemon:
        daemon.start()
        until(lambda: daemon.serves(8192), SOON)
        daemon.stall = "hang"
        for profile in ("first", "second", "first"):
            stuck, file = Stage(profile, "fetching", "hang"), f"{profile}-F16.gguf"
            before = len(daemon.starts_of_ranges(file))
            daemon.wish(profile=profile)
            until(lambda: len(daemon.starts_of_ranges(file)) > before and stuck.reached(daemon), SOON)  # noqa: B023
        daemon.stall = None
        pid = daemon.status()["pid"]
        assert daemon.status()["ready"]
        assert runs(pid)
        daemon.wish(profile="second")
        daemon.wish(profile="demo")
        assert home.run("up", "--profile", "first").code == 0
        assert daemon.serves(8192)
        assert daemon.status()["plan"]["profile"] == "first"
        assert [one["profile"] for one in daemon.events("planned")] == ["demo", "first"]
        assert len(daemon.servers()) == 1
        sent_nothing_twice(daemon)
