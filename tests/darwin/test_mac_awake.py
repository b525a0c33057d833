"""A Mac does not fall asleep while qwenctl downloads, or, where that is wanted, while it serves."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.demo.model import make_model
from qwenctl.model.toml import read_profile
from tests.darwin.mac import Mac
from tests.fakes.home import kill, until
from tests.fakes.hub import REPO, FakeHub, Fault, HubRequest

DEMO = Path(__file__).parents[2] / "profiles/demo.toml"
SOON = 30.0


class Slow:
    """A hub that holds each file back until it may go on."""

    def __init__(self, mac: Mac) -> None:
        self.goes_on = threading.Event()
        made = mac.path / "made.gguf"
        make_model(made, read_profile(DEMO).architecture)
        text = DEMO.read_text().replace('name = "demo"', 'name = "first"').replace("generated = true\n", "")
        hub = f'\n[hub]\nrepo = "{REPO}"\nrevision = "main"\nsource = "a test"\n\n[architecture]'
        text = text.replace("[architecture]", hub, 1).replace("demo.gguf", "first-F16.gguf")
        profiles = mac.state / "profiles"
        profiles.mkdir(parents=True)
        (profiles / "first.toml").write_text(
            text.replace("bits_per_weight", "estimated = true\nbits_per_weight")
        )
        self.hub = FakeHub({"first-F16.gguf": made.read_bytes()}, faults=self._fault)

    def _fault(self, call: HubRequest) -> Fault | None:
        """The first range comes, so that there is progress to see; the others wait."""
        if call.kind != "bytes" or call.range is None or call.range[0] == 0:
            return None
        return Fault(after=self.goes_on)


@pytest.fixture
def slow(mac: Mac) -> Iterator[Slow]:
    made = Slow(mac)
    with made.hub:
        mac.environment |= {
            "HF_ENDPOINT": made.hub.endpoint,
            "QWENCTL_FETCH__CONNECTIONS": "1",
            "QWENCTL_FETCH__RANGE_MIB": "1",
        }
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
    mac: Mac, slow: Slow
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
