"""Fetch from a fake hub into a folder, with a sleep that takes no time, and look at what came of it."""

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.clock import FetchEnvironment, RetryPolicy
from qwenctl.fetch.hub import Hub
from qwenctl.fetch.request import Artifact, FetchRequest, Progress, WantedFile
from tests.fakes.hub import REPO, FakeHub

REQUEST = FetchRequest(REPO, (WantedFile("m.gguf"),), architecture="qwen35", quant="Q4_K_M", range_mib=1)


@dataclass
class Fetcher:
    """One machine's folders. ``slept`` are the waits that were asked for."""

    fake: FakeHub
    folder: Path
    slept: list[float] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    margin_bytes: int = 0
    policy: RetryPolicy = RetryPolicy(stall_s=10)  # noqa: RUF009 - frozen
    token: str | None = None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def blobs(self) -> Path:
        return self.hub().folder(REPO) / "blobs"

    def hub(self, *, offline: bool = False) -> Hub:
        return Hub(self.fake.endpoint, self.cache, offline, self.token)

    def environment(self) -> FetchEnvironment:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            await asyncio.sleep(0)

        metadata = replace(self.policy, attempts=6)
        return FetchEnvironment(
            sleep=sleep,
            spread=lambda: 1.0,
            transfer_policy=self.policy,
            metadata_policy=metadata,
            margin_bytes=self.margin_bytes,
        )

    def fetch(self, request: FetchRequest = REQUEST, *, offline: bool = False) -> Artifact:
        return asyncio.run(
            fetch(
                request,
                self.progress.append,
                state_dir=self.state,
                hub=self.hub(offline=offline),
                environment=self.environment(),
            )
        )

    def check(self, artifact: Artifact) -> None:
        """Every file of the artifact is the hub's, under the path programs look at."""
        for file in artifact.files:
            content = file.path.read_bytes()
            assert hashlib.sha256(content).hexdigest() == file.sha256 == self.fake.sha256(file.name)
            assert file.path.resolve().name == file.sha256

    def nothing_wrong_in_cache(self) -> None:
        """Whatever lies under a hash's name has that hash."""
        for path in self.blobs.glob("*"):
            if "." not in path.name:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name

    def downloads(self) -> int:
        return self.fake.count("bytes")
