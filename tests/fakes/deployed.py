"""A home whose daemon is told things while a change is on its way: the hub stalls, the server is slow.

The profiles ``first`` and ``second`` come from a hub on loopback, ``huge`` lies in the cache and takes
minutes to hash, ``slow`` never gets ready. ``demo`` is always there.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil

from qwenctl.demo.model import make_model
from qwenctl.fetch.cache import journal_path
from qwenctl.fetch.ranges import RangeJournal
from qwenctl.fetch.request import RemoteFile
from qwenctl.model.toml import read_profile
from tests.fakes.home import Home, until
from tests.fakes.hub import COMMIT, REPO, FakeHub, Fault, HubRequest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "profiles/demo.toml"
CACHE = f".cache/huggingface/hub/models--{REPO.replace('/', '--')}"
RANGE = 2**20
STALLS_AT = 5 * RANGE // 2
"""So much of each file comes before the hub stalls: two ranges and a half."""
SOON = 15.0
"""How long a word may take on a machine that is busy with other tests."""


class Deployed:
    """One home, its daemon, and the hub that it fetches from."""

    def __init__(self, home: Home, binary: Path | None = None) -> None:
        self.home, self.config = home, home.path / ".config/qwenctl/config.toml"
        self.hold = home.path / "hold"
        models = _models(home)
        self.sizes = {name: len(content) for name, content in models.items()}
        self.hub = FakeHub({**models}, faults=self._faults)
        self.stall: str | None = None  # "hang", "trickle" or "404"
        self._daemon: subprocess.Popen[bytes] | None = None
        self.save()
        home.environment |= {"QWENCTL_FETCH__CONNECTIONS": "1", "QWENCTL_FETCH__RANGE_MIB": "1"}
        if binary is not None:
            home.environment["QWENCTL_SERVER__BINARY"] = str(binary)

    def __enter__(self) -> "Deployed":
        self.hub.__enter__()
        self.home.environment["HF_ENDPOINT"] = self.hub.endpoint
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.unlink(missing_ok=True)
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGTERM)
            try:
                self._daemon.wait(SOON)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
        self.hub.__exit__(None, None, None)

    def save(self, more: str = "") -> None:
        """Replace the config file as editors do."""
        part = self.config.with_name("config.toml.part")
        part.write_text(f'profile = "demo"\n{more}\n[server]\nport = {self.home.port}\n')
        part.replace(self.config)

    def start(self, **overrides: object) -> int:
        """Start the daemon with these flags of ``up``; return its pid once it has published a status."""
        words = [sys.executable, "-m", "qwenctl", "--json", "run", "--overrides", json.dumps(overrides)]
        self.home.state.mkdir(parents=True, exist_ok=True)
        words += ["--log", str(self.home.state / "daemon.log")]
        with (self.home.path / "out").open("wb") as out, (self.home.path / "err").open("wb") as err:
            self._daemon = subprocess.Popen(
                words, env=self.home.environment, stdout=out, stderr=err, start_new_session=True
            )
        pid = self._daemon.pid
        until(lambda: self.status().get("daemon_pid") == pid or self.ended() is not None, SOON)
        return pid

    def ended(self) -> int | None:
        """Return the daemon's exit code; None while it runs."""
        assert self._daemon is not None
        return self._daemon.poll()

    def refusal(self) -> dict[str, Any]:
        """Return the error that the daemon ended with."""
        error: dict[str, Any] = json.loads((self.home.path / "out").read_text())["error"]
        return error

    def log(self) -> str:
        """Return what the daemon logged."""
        return (self.home.state / "daemon.log").read_text()

    def terminate(self) -> None:
        """Send SIGTERM to the daemon."""
        assert self._daemon is not None
        os.kill(self._daemon.pid, signal.SIGTERM)

    def status(self) -> dict[str, Any]:
        return self.home.status()

    def asked(self) -> dict[str, Any]:
        """Return the status that the daemon gives over its socket."""
        answer: dict[str, Any] = self._call("GET", "/v1/status").json()
        return answer

    def post(self, path: str, body: object = None) -> httpx.Response:
        """Say something to the daemon, which must answer soon."""
        return self._call("POST", path, body)

    def wish(self, **flags: object) -> int:
        """Want something with ``up``'s request. Return the number of the change."""
        number: int = self.post("/v1/apply", {"flags": flags}).json()["change"]
        return number

    def number(self) -> int:
        """Return the number of the newest change."""
        number: int = self.status()["change"]["number"]
        return number

    def state(self) -> str:
        """Return where the newest change is."""
        state: str = self.status()["change"]["state"]
        return state

    def serves(self, tokens: int) -> bool:
        """Return whether a server with this context takes requests, and nothing is on its way."""
        now = self.status()
        return now["ready"] and now["plan"]["context_tokens"] == tokens and self.state() == "settled"

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.home.state / "events.jsonl").read_text().splitlines()
        return [one for one in map(json.loads, lines) if one["event"] == name]

    def servers(self) -> list[int]:
        """Return the pids of the servers that run for this home, real or not."""
        return [one.pid for one in psutil.process_iter() if self._is_server(one)]

    def arrived(self, profile: str) -> int:
        """Return how many ranges of a profile's file will not be asked for again."""
        sha256, size = self.hub.sha256(f"{profile}-F16.gguf"), self.sizes[f"{profile}-F16.gguf"]
        journal = journal_path(self.home.path / CACHE, sha256)
        ranges = RangeJournal(journal, RemoteFile("", size, sha256), RANGE)
        ranges.read()
        return len(ranges.done)

    def starts_of_ranges(self, name: str) -> list[int]:
        """Return where each request for the bytes of a file began."""
        calls = [call for call in self.hub.log if call.kind == "bytes" and f"name={name}" in call.path]
        return [call.range[0] if call.range is not None else 0 for call in calls]

    def _is_server(self, process: psutil.Process) -> bool:
        try:
            words = process.cmdline()
        except psutil.Error:
            return False
        return "-m" in words and any(str(self.home.path) in word for word in words) and "qwenctl" not in words

    def _call(self, method: str, path: str, body: object = None) -> httpx.Response:
        transport = httpx.HTTPTransport(uds=str(self.home.state / "control.sock"))
        with httpx.Client(transport=transport, base_url="http://x", timeout=SOON) as client:
            return client.request(method, path, json=body)

    def _faults(self, call: HubRequest) -> Fault | None:
        if self.stall == "404":
            return Fault(status=404)
        if call.kind != "bytes" or self.stall is None:
            return None
        left = STALLS_AT - (call.range[0] if call.range is not None else 0)
        if self.stall == "hang":
            return Fault(hang_after=max(left, 0))
        return Fault(reset_after=left) if left > 0 else Fault(trickle=True)


def cache_huge(home: Home) -> None:
    """Put a file into the cache that another program has fetched, and that takes minutes to hash."""
    folder = home.path / CACHE
    blob, link = folder / "blobs" / ("0" * 64), folder / "snapshots" / COMMIT / "huge-F16.gguf"
    for path in (blob, link):
        path.parent.mkdir(parents=True)
    with blob.open("wb") as file:
        file.truncate(2**38)
    link.symlink_to(f"../../blobs/{blob.name}")


def _models(home: Home) -> dict[str, bytes]:
    """Write the profiles; return the files of the hub: each of its own content."""
    profiles = home.path / ".config/qwenctl/profiles"
    profiles.mkdir(parents=True)
    made = home.path / "made.gguf"
    make_model(made, read_profile(DEMO).architecture)
    files: dict[str, bytes] = {}
    for number, (name, revision) in enumerate((("first", "main"), ("second", "main"), ("huge", COMMIT))):
        content = made.read_bytes() + bytes(32 * number)
        text = DEMO.read_text().replace('name = "demo"', f'name = "{name}"').replace("generated = true\n", "")
        hub = f'\n[hub]\nrepo = "{REPO}"\nrevision = "{revision}"\nsource = "a test"\n\n[architecture]'
        text = text.replace("[architecture]", hub, 1).replace("demo.gguf", f"{name}-F16.gguf")
        text = text.replace("bits_per_weight", "estimated = true\nbits_per_weight")
        (profiles / f"{name}.toml").write_text(text)
        files[f"{name}-F16.gguf"] = content
    text = DEMO.read_text().replace('name = "demo"', 'name = "slow"').replace("demo.gguf", "slow.gguf")
    (profiles / "slow.toml").write_text(text)
    assert len({hashlib.sha256(one).hexdigest() for one in files.values()}) == len(files)
    return files
