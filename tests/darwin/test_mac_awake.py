"""A Mac does not fall asleep while qwenctl downloads, or, where that is wanted, while it serves."""

from collections.abc import Iterator

import pytest

from tests.darwin.mac import Mac
from tests.darwin.slow_hub import SlowHub
from tests.fakes.home import kill, until

SOON = 30.0


@pytest.fixture
def slow(mac: Mac) -> Iterator[SlowHub]:
    made = SlowHub(mac)
    with made.hub:
        made.known_to(mac)
        try:
            yield made
        finally:
            made.goes_on.set()


def log(mac: Mac) -> list[str]:
    """How caffeinate was called, without pids, and when it ended."""
    path = mac.system / "caffeinate.log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.partition(" ")[2] or line for line in lines]


def test_a_mac_stays_awake_while_it_downloads_and_as_long_as_it_serves_where_that_is_wanted(
    mac: Mac, slow: SlowHub
) -> None:
    mac.scripted()
    fetching = mac.begun([str(mac.python), "-m", "qwenctl", "fetch", "first"])
    until(lambda: log(mac) == ["-i cat"], SOON)
    fetching.kill()
    fetching.communicate()
    until(lambda: log(mac) == ["-i cat", "ended"], SOON)

    words = [str(mac.python), "-m", "qwenctl", "up", "first", "--port", str(mac.port)]
    up = mac.begun(words, {"QWENCTL_SERVER__KEEP_AWAKE": "fetching"})
    until(lambda: log(mac)[2:] == ["-i cat"], SOON)
    slow.goes_on.set()
    out, err = up.communicate(timeout=SOON)
    assert up.returncode == 0, (out, err)
    until(lambda: log(mac)[2:] == ["-i cat", "ended"], SOON)
    assert mac.run("down").code == 0

    serving = mac.begun([*words], {"QWENCTL_SERVER__KEEP_AWAKE": "serving"})
    serving.communicate(timeout=SOON)
    assert log(mac)[4:] == ["-i cat"]
    kill(mac.status()["daemon_pid"])
    until(lambda: log(mac)[4:] == ["-i cat", "ended"], SOON)
