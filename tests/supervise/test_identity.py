"""A process is known again by all marks that its system keeps, or not at all."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.supervise.identity import Identity, identify, reap, same
from tests.fakes.home import until


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_leftover_that_matches_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    until(lambda: (who := identify(sleeper.pid)) is not None and who.executable.endswith("sleep"), within=5)
    leftover = identify(sleeper.pid)
    assert leftover is not None
    assert identify(sleeper.pid) == leftover
    assert reap(leftover, timeout_s=5)
    assert sleeper.wait(timeout=5) == -9
    assert not reap(leftover)


OTHERS: tuple[dict[str, str], ...] = ({"started": "0/1"}, {"executable": "/usr/bin/llama-server"})


@pytest.mark.parametrize("other", OTHERS if sys.platform == "linux" else OTHERS[:1])
def test_a_stranger_with_the_same_number_is_never_signalled(
    sleeper: subprocess.Popen[bytes], other: dict[str, str]
) -> None:
    mine = identify(sleeper.pid)
    assert mine is not None
    assert not reap(replace(mine, **other))  # type: ignore[arg-type]
    assert sleeper.poll() is None


def test_a_process_that_has_ended_has_no_identity() -> None:
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    assert identify(process.pid) is None


def test_a_replaced_executable_is_still_the_same_process(tmp_path: Path) -> None:
    binary = tmp_path / "sleep"
    binary.write_bytes(Path("/bin/sleep").read_bytes())
    binary.chmod(0o755)
    process = subprocess.Popen([binary, "1000"])
    try:
        before = identify(process.pid)
        binary.unlink()
        assert before is not None
        assert same(before, identify(process.pid))
    finally:
        process.kill()
        process.wait()


def test_the_executable_counts_on_linux_only() -> None:
    """Elsewhere it is guessed from how the program was started, once its file was removed."""
    kept = Identity(7, "100.5", "/opt/homebrew/Cellar/llama.cpp/1/bin/llama-server")
    for executable in ("", "/opt/homebrew/bin/llama-server"):
        guessed = replace(kept, executable=executable)
        assert same(kept, guessed, "darwin")
        assert not same(kept, guessed, "linux")
        assert not same(kept, replace(guessed, started="100.6"), "darwin")
    assert same(kept, kept, "linux")
    assert not same(kept, None, "darwin")
