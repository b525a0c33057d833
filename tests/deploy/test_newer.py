"""Whether the hub has something newer than what is used: asked, told, and nothing moves."""

import asyncio
from pathlib import Path

import pytest

from qwenctl.deploy import model_file, pipeline
from qwenctl.deploy.types import PlanRequest
from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.hub import Hub
from qwenctl.fetch.preview import newer_commit
from qwenctl.fetch.request import FetchRequest, WantedFile
from tests.fakes.gguf_file import write_gguf
from tests.fakes.hub import COMMIT, REPO, FakeHub

LATER = "f" * 40


@pytest.mark.parametrize(("latest", "told"), [(COMMIT, None), (LATER, LATER)])
def test_a_newer_commit_is_told_and_not_taken(tmp_path: Path, latest: str, told: str | None) -> None:
    model = tmp_path / "m.gguf"
    write_gguf(model)
    wanted = FetchRequest(REPO, (WantedFile("m.gguf"),))
    with FakeHub({"m.gguf": model}) as served:
        hub = Hub(served.endpoint, tmp_path / "cache")
        artifact = asyncio.run(fetch(wanted, lambda _: None, state_dir=tmp_path / "state", hub=hub))
        served.branches["main"] = latest
        asked = served.bytes_sent
        assert artifact.commit == COMMIT
        assert asyncio.run(newer_commit(wanted, COMMIT, hub=hub)) == told
        again = asyncio.run(fetch(wanted, lambda _: None, state_dir=tmp_path / "state", hub=hub))
        assert again.commit == COMMIT
        assert served.bytes_sent == asked


@pytest.mark.usefixtures("server_binary")
def test_a_model_that_comes_from_no_hub_has_nothing_newer(home_request: PlanRequest) -> None:
    draft = pipeline.prepare(home_request)
    path = model_file.model_path(draft.resolved, draft.plan)
    assert asyncio.run(model_file.newer_than(pipeline.configuration(draft, path))) is None


@pytest.fixture
def home_request(tmp_path: Path) -> PlanRequest:
    return PlanRequest(tmp_path, {"profile": "demo"})
