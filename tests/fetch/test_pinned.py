"""A file that is here with the pinned hash is used: under any name, of any program, without a hub."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.demo.model import make_model
from qwenctl.errors import FetchError
from qwenctl.fetch import cache
from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.local_copies import copies
from qwenctl.fetch.preview import dry_run
from qwenctl.fetch.prune import leftovers
from qwenctl.fetch.request import Artifact, FetchRequest, RemoteFile, WantedFile
from qwenctl.model.toml import read_profile
from qwenctl.paths import ModelFolders
from tests.fakes.fetcher import REQUEST, Fetcher
from tests.fakes.home import is_healthy, until
from tests.fakes.hub import COMMIT, REPO, FakeHub, Fault

PROFILES = Path(__file__).parents[2] / "profiles"
NEWER = "abcdefabcdefabcdefabcdefabcdefabcdefabcd"


@pytest.fixture
def pinned(fetcher: Fetcher, model: bytes) -> FetchRequest:
    files = (WantedFile("m.gguf", len(model), fetcher.fake.sha256("m.gguf")),)
    return replace(REQUEST, files=files, revision=COMMIT)


def bring(
    fetcher: Fetcher, request: FetchRequest, folders: ModelFolders, *, offline: bool = True
) -> Artifact:
    def elsewhere(file: RemoteFile) -> Iterable[Path]:
        return copies(file, folders)

    return asyncio.run(
        fetch(
            request,
            fetcher.progress.append,
            state_dir=fetcher.state,
            hub=fetcher.hub(offline=offline),
            environment=fetcher.environment(),
            elsewhere=elsewhere,
        )
    )


def at_a_later_commit(fetcher: Fetcher) -> None:
    """What ``hf download`` or ``llama-server -hf`` leaves: the blob, under another commit and name."""
    fetcher.fake.branches["main"] = NEWER
    fetcher.fetch()
    shutil.rmtree(fetcher.state)
    snapshot = fetcher.hub().folder(REPO) / "snapshots" / NEWER
    (snapshot / "m.gguf").rename(snapshot / "renamed.gguf")
    (fetcher.hub().folder(REPO) / "refs" / "qwenctl").unlink()


def test_a_blob_of_another_commit_and_name_is_used_offline(fetcher: Fetcher, pinned: FetchRequest) -> None:
    at_a_later_commit(fetcher)
    moved, asked = fetcher.downloads(), len(fetcher.fake.log)
    artifact = fetcher.fetch(pinned, offline=True)
    fetcher.check(artifact)
    assert artifact.commit == COMMIT
    assert (fetcher.downloads(), len(fetcher.fake.log)) == (moved, asked)
    hashed = [step for step in fetcher.progress if step.phase == "verifying"]
    fetcher.progress.clear()
    fetcher.fetch(pinned, offline=True)
    assert hashed
    assert not any(step.phase == "verifying" for step in fetcher.progress), "hashed once"


def test_a_blob_is_used_while_the_hub_answers_nothing_but_errors(
    fetcher: Fetcher, pinned: FetchRequest
) -> None:
    at_a_later_commit(fetcher)
    fetcher.fake.faults = lambda _call: Fault(status=503)
    fetcher.check(fetcher.fetch(pinned))


def test_a_blob_of_another_repository_is_used_and_takes_no_space(
    fetcher: Fetcher, pinned: FetchRequest
) -> None:
    fetcher.fetch()
    shutil.rmtree(fetcher.state)
    folder = fetcher.hub().folder(REPO)
    other = folder.with_name("models--other--Copy-GGUF")
    folder.rename(other)
    artifact = fetcher.fetch(pinned, offline=True)
    fetcher.check(artifact)
    assert artifact.path.resolve().samefile(other / "blobs" / fetcher.fake.sha256("m.gguf"))
    shutil.rmtree(other)
    fetcher.check(artifact)


def test_wrong_bytes_under_the_pinned_hash_are_never_used(fetcher: Fetcher, pinned: FetchRequest) -> None:
    at_a_later_commit(fetcher)
    blob = fetcher.blobs / fetcher.fake.sha256("m.gguf")
    blob.write_bytes(bytes(blob.stat().st_size))
    with pytest.raises(FetchError, match="offline"):
        fetcher.fetch(pinned, offline=True)


def test_a_pinned_commit_that_is_gone_from_the_hub_is_found_again_by_its_hash(
    fetcher: Fetcher, pinned: FetchRequest, model: bytes
) -> None:
    fetcher.fake.branches["main"] = NEWER
    fetcher.fake.files = {"renamed.gguf": model}
    artifact = fetcher.fetch(pinned)
    assert artifact.commit == NEWER
    fetcher.check(artifact)
    other = replace(pinned, files=(WantedFile("other.gguf", len(model), "0" * 64),))
    with pytest.raises(FetchError, match="no such branch, tag or commit"):
        fetcher.fetch(other)


@pytest.mark.parametrize("where", ["ollama", "lm_studio", "llama_cpp"])
def test_a_file_of_another_program_is_used_where_it_is_and_stays_its(
    fetcher: Fetcher, pinned: FetchRequest, model: bytes, tmp_path: Path, where: str
) -> None:
    sha256 = fetcher.fake.sha256("m.gguf")
    path = {
        "ollama": tmp_path / f"other/blobs/sha256-{sha256}",
        "lm_studio": tmp_path / "other/someone/Model-GGUF/any name.gguf",
        "llama_cpp": tmp_path / "other/someone_Model-GGUF_m.gguf",
    }[where]
    path.parent.mkdir(parents=True)
    path.write_bytes(model)
    (path.parent / "same size.gguf").write_bytes(bytes(len(model)))
    folders = ModelFolders(**{where: (tmp_path / "other",)})
    artifact = bring(fetcher, pinned, folders)
    assert artifact.path == path
    assert fetcher.fake.log == []
    assert bring(fetcher, pinned, ModelFolders()) == artifact, "it is remembered"
    assert leftovers(fetcher.cache, fetcher.state, frozenset()) == (), "it is not ours to remove"
    path.unlink()
    with pytest.raises(FetchError, match="offline"):
        bring(fetcher, pinned, ModelFolders())


def test_another_file_of_the_same_size_is_not_taken_for_it(
    fetcher: Fetcher, pinned: FetchRequest, model: bytes, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/m.gguf").write_bytes(bytes(len(model)))
    with pytest.raises(FetchError, match="offline"):
        bring(fetcher, pinned, ModelFolders(lm_studio=(tmp_path / "other",)))


def refs(fetcher: Fetcher) -> dict[str, str]:
    folder = fetcher.hub().folder(REPO) / "refs"
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_is_fetched_has_a_ref_whichever_revision_it_is_of(
    fetcher: Fetcher, pinned: FetchRequest
) -> None:
    fetcher.fetch(pinned)
    assert refs(fetcher) == {"qwenctl": COMMIT}
    fetcher.fake.branches["main"] = NEWER
    fetcher.fetch(replace(pinned, update=True))
    assert refs(fetcher) == {"qwenctl": NEWER, f"qwenctl-{COMMIT[:12]}": COMMIT}
    fetcher.fetch(pinned)
    assert len(refs(fetcher)) == 2


def test_a_file_that_was_fetched_before_there_were_refs_gets_one(
    fetcher: Fetcher, pinned: FetchRequest
) -> None:
    fetcher.fetch(pinned)
    (fetcher.hub().folder(REPO) / "refs" / "qwenctl").unlink()
    fetcher.fetch(pinned)
    assert refs(fetcher) == {"qwenctl": COMMIT}


def test_a_commit_whose_files_are_gone_takes_its_refs_with_it(fetcher: Fetcher, pinned: FetchRequest) -> None:
    artifact = fetcher.fetch(pinned)
    folder = fetcher.hub().folder(REPO)
    cache.forget_commit(folder, COMMIT)
    assert refs(fetcher) == {"qwenctl": COMMIT}, "it still has a file"
    artifact.path.unlink()
    cache.forget_commit(folder, COMMIT)
    assert refs(fetcher) == {}
    assert not (folder / "snapshots" / COMMIT).exists()


def hf(fetcher: Fetcher, *words: str) -> str:
    """Run the real ``hf`` on this cache."""
    program = Path(sys.executable).with_name("hf")
    if not program.exists():
        pytest.skip("huggingface_hub's command line is not installed")
    done = subprocess.run(
        [str(program), *words],
        env={
            "HF_HUB_CACHE": str(fetcher.cache),
            "HOME": str(fetcher.folder),
            "HF_HUB_OFFLINE": "1",
            "PATH": "/usr/bin:/bin",
            "NO_COLOR": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_real_hf_cache_prune_keeps_what_qwenctl_fetched(fetcher: Fetcher, pinned: FetchRequest) -> None:
    fetcher.fetch(pinned)
    assert "nothing to prune" in hf(fetcher, "cache", "prune", "--dry-run").lower()
    (fetcher.hub().folder(REPO) / "refs" / "qwenctl").unlink()
    assert "1 unreferenced revision" in hf(fetcher, "cache", "prune", "--dry-run"), "it would be deleted"


def test_the_real_llama_server_finds_by_name_and_offline_what_qwenctl_fetched(
    built_engine: Path, tmp_path: Path
) -> None:
    """Not the bundled one: its program knows ``-hf``, its library looks up nothing."""
    make_model(tmp_path / "hub/tiny-F16.gguf", read_profile(PROFILES / "demo.toml").architecture)
    with FakeHub({"tiny-F16.gguf": tmp_path / "hub/tiny-F16.gguf"}) as hub:
        fetcher = Fetcher(hub, tmp_path)
        request = replace(REQUEST, files=(WantedFile("tiny-F16.gguf"),), revision=COMMIT, quant="F16")
        fetcher.fetch(request)
    assert answers(built_engine, fetcher)
    (fetcher.hub().folder(REPO) / "refs" / "qwenctl").unlink()
    assert not answers(built_engine, fetcher), "without the ref it would not be found"


def answers(binary: Path, fetcher: Fetcher) -> bool:
    """Start the server as ``-hf`` has it, without a network; return whether it ever becomes healthy."""
    with tempfile.TemporaryDirectory(prefix="qt-") as folder:
        socket = Path(folder) / "s.sock"
        words = [str(binary), "--offline", "-hf", f"{REPO}:F16", "--host", str(socket), "-c", "256"]
        server = subprocess.Popen(
            words,
            env={"HF_HUB_CACHE": str(fetcher.cache), "HOME": folder, "PATH": "/usr/bin:/bin"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: server.poll() is not None or is_healthy(socket), within=60)
            return server.poll() is None
        finally:
            server.kill()
            server.wait(10)


def test_a_dry_run_knows_a_pinned_file_that_is_here_without_a_hub(
    fetcher: Fetcher, pinned: FetchRequest
) -> None:
    at_a_later_commit(fetcher)
    asked = len(fetcher.fake.log)
    found = asyncio.run(dry_run(pinned, state_dir=fetcher.state, hub=fetcher.hub(offline=True)))
    assert (found.needed_bytes, found.commit) == (0, COMMIT)
    assert len(fetcher.fake.log) == asked
