"""A removal frees what it says, spares what others use, and never leaves its folder."""

import os
from pathlib import Path

import pytest

from qwenctl.errors import FetchError
from qwenctl.fetch.cache import Lock
from qwenctl.fetch.remove_models import removal_of, remove_models
from qwenctl.model.library import LibraryModel, find_model, models_of
from qwenctl.model.library_layouts import Scanned, scan_folder, scan_hub, scan_llama_cpp, scan_ollama
from qwenctl.model.library_removal import refusal_of
from tests.fakes.libraries import (
    COMMIT,
    LATER,
    content,
    put_in_hub,
    put_in_llama_cpp,
    put_in_lm_studio,
    put_in_ollama,
)

REPO = "someone/Model-GGUF"
FOLDER = "models--someone--Model-GGUF"


def pick(found: Scanned, name: str) -> LibraryModel:
    (model,) = find_model(models_of(found.files), name)
    return model


def take(model: LibraryModel, state: Path) -> int:
    before = disk(model.first.root)
    removal = removal_of((model,))
    freed = remove_models((model,), removal, state)
    assert before - disk(model.first.root) == freed, "exactly what was promised"
    return freed


def disk(root: Path) -> int:
    """The space that the models below take, each of their bytes once: blobs, files, by inode."""
    files = [path.lstat() for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    found = {(one.st_dev, one.st_ino): one.st_blocks * 512 for one in files if one.st_size > 1000}
    return sum(found.values())


def test_a_model_of_the_hubs_cache_goes_with_its_commit_and_refs(tmp_path: Path) -> None:
    link = put_in_hub(tmp_path, REPO, "Model-Q4_K_M.gguf", content(tmp_path.with_name("x"), 1))
    other = put_in_hub(tmp_path, REPO, "Model-Q8_0.gguf", content(tmp_path.with_name("x"), 2))
    assert take(pick(scan_hub(tmp_path), f"{REPO}:Q4_K_M"), tmp_path / "state") > 20_000
    assert not link.is_symlink()
    assert other.is_file()
    assert (tmp_path / FOLDER / "refs/main").is_file()
    take(pick(scan_hub(tmp_path), f"{REPO}:Q8_0"), tmp_path / "state")
    assert not (tmp_path / FOLDER / "snapshots" / COMMIT).exists()
    assert not (tmp_path / FOLDER / "refs/main").exists(), "a ref to nothing is a damaged cache"


def test_a_blob_goes_with_all_commits_that_link_to_it(tmp_path: Path) -> None:
    for commit in (COMMIT, LATER):
        put_in_hub(tmp_path, REPO, "Model-Q4_K_M.gguf", content(tmp_path.with_name("x"), 1), commit)
    assert take(pick(scan_hub(tmp_path), f"{REPO}:Q4_K_M"), tmp_path / "state") > 20_000
    assert list(tmp_path.rglob("*.gguf")) == []


def test_a_blob_that_a_model_of_another_commit_needs_stays(tmp_path: Path) -> None:
    """Of a split model an update changed the first part; the second part is the same blob."""
    data = [content(tmp_path.with_name("x"), number) for number in range(3)]
    names = [f"Model-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    for commit, first in ((COMMIT, data[0]), (LATER, data[1])):
        put_in_hub(tmp_path, REPO, names[0], first, commit)
        put_in_hub(tmp_path, REPO, names[1], data[2], commit)
    old = pick(scan_hub(tmp_path), f"{REPO}:Q8_0@{COMMIT}")
    freed = take(old, tmp_path / "state")
    assert 0 < freed < old.bytes * 0.7
    new = pick(scan_hub(tmp_path), f"{REPO}:Q8_0")
    assert [file.disk.path.read_bytes() for file in new.files] == data[1:]


def test_a_hard_link_elsewhere_keeps_the_bytes_and_the_count_says_so(tmp_path: Path) -> None:
    link = put_in_hub(tmp_path / "hub", REPO, "Model-Q4_K_M.gguf", content(tmp_path / "x", 1))
    os.link(link.resolve(), tmp_path / "mine.gguf")
    model = pick(scan_hub(tmp_path / "hub"), f"{REPO}:Q4_K_M")
    removal = removal_of((model,))
    assert removal.freed_bytes == 0
    assert remove_models((model,), removal, tmp_path / "state") == 0
    assert (tmp_path / "mine.gguf").read_bytes() == content(tmp_path / "x", 1)


def test_two_names_of_the_same_bytes_that_both_go_free_them(tmp_path: Path) -> None:
    first = put_in_lm_studio(tmp_path / "lms", "a/b", "m-Q8_0.gguf", content(tmp_path / "x", 1))
    (tmp_path / "lms/c/d").mkdir(parents=True)
    os.link(first, tmp_path / "lms/c/d/n-Q8_0.gguf")
    models = models_of(scan_folder(tmp_path / "lms", "LM Studio").files)
    assert len(models) == 2
    assert removal_of(models[:1]).freed_bytes == 0
    assert removal_of(models).freed_bytes == first.stat().st_blocks * 512


def test_a_link_out_of_the_cache_is_removed_and_what_it_leads_to_is_not(tmp_path: Path) -> None:
    precious = tmp_path / "precious.gguf"
    precious.write_bytes(content(tmp_path / "x", 1))
    link = put_in_hub(tmp_path / "hub", REPO, "Model-Q4_K_M.gguf", content(tmp_path / "x", 2))
    link.unlink()
    link.symlink_to(precious)
    model = pick(scan_hub(tmp_path / "hub"), f"{REPO}:Q4_K_M")
    assert take(model, tmp_path / "state") == 0
    assert precious.is_file()
    assert not link.is_symlink()
    linked = put_in_lm_studio(tmp_path / "lms", "a/b", "m-Q8_0.gguf", b"")
    linked.unlink()
    linked.symlink_to(precious)
    assert take(pick(scan_folder(tmp_path / "lms", "LM Studio"), str(linked)), tmp_path / "state") == 0
    assert precious.is_file()


def test_a_folder_that_became_a_link_out_of_the_cache_is_not_entered(tmp_path: Path) -> None:
    path = put_in_lm_studio(tmp_path / "lms", "a/b", "m-Q8_0.gguf", content(tmp_path / "x", 1))
    model = pick(scan_folder(tmp_path / "lms", "LM Studio"), str(path))
    removal = removal_of((model,))
    path.parent.rename(tmp_path / "away")
    path.parent.symlink_to(tmp_path / "away")
    with pytest.raises(FetchError, match="its folder is outside"):
        remove_models((model,), removal, tmp_path / "state")
    assert (tmp_path / "away/m-Q8_0.gguf").is_file()


def test_a_file_that_changed_meanwhile_stays(tmp_path: Path) -> None:
    path = put_in_lm_studio(tmp_path / "lms", "a/b", "m-Q8_0.gguf", content(tmp_path / "x", 1))
    model = pick(scan_folder(tmp_path / "lms", "LM Studio"), str(path))
    removal = removal_of((model,))
    path.rename(path.with_name("old"))
    path.write_bytes(b"new")
    with pytest.raises(FetchError, match="it changed meanwhile"):
        remove_models((model,), removal, tmp_path / "state")
    assert path.read_bytes() == b"new"


def test_what_is_being_downloaded_stays(tmp_path: Path) -> None:
    link = put_in_hub(tmp_path, REPO, "Model-Q4_K_M.gguf", content(tmp_path.with_name("x"), 1))
    lock = Lock(tmp_path / ".locks" / FOLDER / f"{link.resolve().name}.lock")
    assert lock.take()
    model = pick(scan_hub(tmp_path), f"{REPO}:Q4_K_M")
    with pytest.raises(FetchError, match="it is being downloaded"):
        remove_models((model,), removal_of((model,)), tmp_path / "state")
    lock.release()
    assert link.is_file()


def test_llama_cpps_tables_go_with_their_file(tmp_path: Path) -> None:
    data = content(tmp_path / "x", 1)
    path = put_in_llama_cpp(tmp_path / "c", REPO, "model-q4_k_m.gguf", "Q4_K_M", data)
    put_in_llama_cpp(tmp_path / "c", "other/M", "m-q8_0.gguf", "Q8_0", content(tmp_path / "x", 2))
    take(pick(scan_llama_cpp(tmp_path / "c"), str(path)), tmp_path / "state")
    left = sorted(file.name for file in (tmp_path / "c").iterdir())
    assert left == ["manifest=other=M=Q8_0.json", "other_M_m-q8_0.gguf", "other_M_m-q8_0.gguf.json"]


def test_lm_studios_empty_folders_go_and_its_own_stays(tmp_path: Path) -> None:
    path = put_in_lm_studio(tmp_path / "lms", "a/b", "m-Q8_0.gguf", content(tmp_path / "x", 1))
    take(pick(scan_folder(tmp_path / "lms", "LM Studio"), str(path)), tmp_path / "state")
    assert list((tmp_path / "lms").iterdir()) == []


def test_ollamas_models_and_a_persons_own_files_are_refused_with_what_to_type(tmp_path: Path) -> None:
    put_in_ollama(tmp_path / "o", "smollm2", "135m", content(tmp_path / "x", 1))
    refusal = refusal_of(pick(scan_ollama(tmp_path / "o"), "smollm2:135m"))
    assert refusal is not None
    assert refusal.hint == "ollama rm smollm2:135m"
    path = put_in_lm_studio(tmp_path / "own", "a/b", "m-Q8_0.gguf", content(tmp_path / "x", 1))
    refusal = refusal_of(pick(scan_folder(tmp_path / "own"), str(path)))
    assert refusal is not None
    assert refusal.hint == f"rm {path}"
