"""A hub whose model a Mac downloads while a test looks on."""

import threading
from pathlib import Path

from qwenctl.demo.model import make_model
from qwenctl.model.toml import read_profile
from tests.darwin.mac import Mac
from tests.fakes.hub import REPO, FakeHub, Fault, HubRequest

DEMO = Path(__file__).parents[2] / "profiles/demo.toml"


class SlowHub:
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

    def known_to(self, mac: Mac) -> None:
        """Let the Mac download from it, a range after the other."""
        mac.environment |= {
            "HF_ENDPOINT": self.hub.endpoint,
            "QWENCTL_FETCH__CONNECTIONS": "1",
            "QWENCTL_FETCH__RANGE_MIB": "1",
        }

    def _fault(self, call: HubRequest) -> Fault | None:
        """The first range comes, so that there is progress to see; the others wait."""
        if call.kind != "bytes" or call.range is None or call.range[0] == 0:
            return None
        return Fault(after=self.goes_on)
