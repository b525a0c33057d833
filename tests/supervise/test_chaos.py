"""200 faults on the real server under load. Left out by default: ``pytest -m chaos``; the seed is printed.

``SEED`` and ``FAULTS`` repeat or shorten a run.
"""

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from tests.fakes.home import Home, until

FAULTS = int(os.environ.get("FAULTS", "200"))
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
CALM_WITHIN_S = 90.0
GROWTH = 1.05
WARM_UP = 10
PAGES_OF_NOISE = 2_000_000
"""Bytes by which two readings of the same process may differ without any leak: arenas, caches."""


class Reading(NamedTuple):
    """What the daemon holds."""

    descriptors: int
    memory_bytes: int


class Chaos:
    """A served home, and everything that can happen to it."""

    def __init__(self, home: Home, binary: Path, chance: random.Random) -> None:
        self.home, self.chance = home, chance
        self.binary = home.path / "llama-server"
        self.real = f'#!/bin/sh\nexec "{binary}" "$@"\n'
        self.replace_binary(self.real)
        self.tokens = 2048
        self.config = home.path / ".config/qwenctl/config.toml"
        self.config.parent.mkdir(parents=True)
        self.save()

    def save(self, more: str = "") -> None:
        """Write a config file as editors do."""
        part = self.config.with_name("part")
        part.write_text(
            f'profile = "demo"\n[context]\ntokens = {self.tokens}\n'
            f"[supervise]\nready_timeout_s = 8\nstop_timeout_s = 2\nwedge_after_s = 2\n"
            f'[server]\nport = {self.home.port}\nbinary = "{self.binary}"\n{more}\n'
        )
        part.replace(self.config)

    def replace_binary(self, text: str) -> None:
        part = self.binary.with_name("part")
        part.write_text(text)
        part.chmod(0o755)
        part.replace(self.binary)

    def faults(self) -> tuple[Callable[[], None], ...]:
        return (
            lambda: self.signal(signal.SIGKILL),
            lambda: self.signal(signal.SIGKILL),
            lambda: self.signal(signal.SIGSTOP),
            lambda: self.signal(signal.SIGTERM),
            lambda: self.signal(signal.SIGSEGV),
            self.good_change,
            self.invalid_change,
            self.change_that_only_the_server_can_judge,
            self.remove_socket,
            self.disk_full,
            self.failing_binary,
        )

    def signal(self, number: signal.Signals) -> None:
        pid = self.home.status().get("pid")
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def good_change(self) -> None:
        self.tokens = self.chance.randrange(1024, 8192, 256)
        self.save()

    def invalid_change(self) -> None:
        self.save(self.chance.choice(["profile = [", 'colour = "red"', 'extra_args = ["--no-such-flag"]']))
        self.while_away()
        self.save()

    def change_that_only_the_server_can_judge(self) -> None:
        self.save('extra_args = ["--numa", "nonsense"]')
        self.while_away()
        self.save()

    def remove_socket(self) -> None:
        (self.home.state / "control.sock").unlink(missing_ok=True)

    def disk_full(self) -> None:
        """Names that cannot be written stand for a full disk: the same error path, and no root is needed."""
        for name in ("server.log", "events.jsonl"):
            with contextlib.suppress(OSError):
                (self.home.state / name).rename(self.home.state / f"{name}.kept")
                (self.home.state / name).symlink_to("/dev/full")
        self.while_away()
        for path in self.home.state.iterdir():  # a turned-over log has another name by now
            if path.is_symlink():
                path.unlink()

    def failing_binary(self) -> None:
        self.replace_binary(
            "#!/bin/sh\necho 'x: error while loading shared libraries: liby.so: gone'\nexit 127\n"
        )
        if self.chance.random() < 0.5:
            self.signal(signal.SIGKILL)
        self.while_away()
        self.replace_binary(self.real)

    def while_away(self) -> None:
        """A fault lasts a moment; a random one, so that it meets every phase."""
        time.sleep(self.chance.uniform(0.0, 1.5))

    def calm(self, *, exactly: bool) -> None:
        """Wait until it serves: the last saved configuration, or the one before if that was rolled back.

        A good one is rolled back when its binary failed at that moment; it is tried again when asked.
        """

        def serving() -> bool:
            status = self.home.status()
            if not status.get("ready"):
                return False
            if exactly and status["rolled_back"]:
                os.kill(status["daemon_pid"], signal.SIGHUP)
                time.sleep(2)
            wanted = status["plan"]["context_tokens"] == self.tokens
            return wanted or (not exactly and bool(status["rolled_back"]))

        try:
            until(serving, within=CALM_WITHIN_S)
        except AssertionError:
            print(self.home.status(), *self.told(), sep="\n")
            raise

    def told(self) -> list[str]:
        """The last events, without their logs."""
        lines = (self.home.state / "events.jsonl").read_text().splitlines()[-40:]
        return [line.split(', "log_tail"')[0] for line in lines]

    def reading(self) -> Reading:
        daemon = psutil.Process(self.home.status()["daemon_pid"])
        return Reading(daemon.num_fds(), daemon.memory_full_info().uss)


@contextlib.contextmanager
def load(port: int) -> Iterator[list[int]]:
    """Two clients that never stop asking. Counts good answers."""
    stop, answered = threading.Event(), [0]

    def ask() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=3) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/completion", json={"prompt": "once upon", "n_predict": 20})
                    answered[0] += answer.is_success
                except httpx.HTTPError:
                    stop.wait(0.05)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield answered
    finally:
        stop.set()
        for client in clients:
            client.join()


@pytest.mark.chaos
def test_after_two_hundred_faults_it_serves_the_last_good_configuration(
    home: Home, server_binary: Path
) -> None:
    print(f"seed {SEED}, {FAULTS} faults")
    chaos = Chaos(home, server_binary, random.Random(SEED))
    assert home.run("up").code == 0
    before = chaos.reading()
    worst_s = 0.0
    with load(home.port) as answered:
        for number in range(FAULTS):
            chaos.chance.choice(chaos.faults())()
            chaos.while_away()
            if number % 10 == WARM_UP - 1:
                begun = time.monotonic()
                chaos.calm(exactly=False)
                worst_s = max(worst_s, time.monotonic() - begun)
            if number == 2 * WARM_UP - 1:
                before = chaos.reading()
        chaos.calm(exactly=True)
    until((home.state / "control.sock").exists, within=30)
    limit = before.descriptors * GROWTH  # a probe on its way has a descriptor, too
    until(lambda: chaos.reading().descriptors <= limit, within=30)
    after, status = chaos.reading(), home.status()
    print(f"answered {answered[0]}, restarts {status['restarts']}, longest return {worst_s:.1f} s")
    print(f"daemon before {before}, after {after}")
    assert status["troubles"] == []
    assert answered[0] > 0
    assert home.servers() == [status["pid"]]
    assert after.memory_bytes <= before.memory_bytes * GROWTH + PAGES_OF_NOISE
    assert home.run("down").code == 0
    shutil.rmtree(home.state)
