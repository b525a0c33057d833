"""Models are found in the folders of every program, and what is none, or hostile, is not."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import gguf
import pytest

from qwenctl.model.library import FoundFile, LibraryModel, find_model, in_use, models_of, offered
from qwenctl.model.library_files import facts_of, look_at, read_small, walk
from qwenctl.model.library_layouts import Scanned, scan_folder, scan_hub, scan_llama_cpp, scan_ollama
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


def ups(found: Scanned | Iterable[FoundFile]) -> list[str]:
    files = found.files if isinstance(found, Scanned) else found
    return [model.up for model in models_of(files)]


def only(found: Scanned) -> LibraryModel:
    (model,) = models_of(found.files)
    return model


def test_the_hubs_cache_gives_repository_and_quant(tmp_path: Path) -> None:
    link = put_in_hub(tmp_path / "hub", REPO, "Model-Q4_K_M.gguf", content(tmp_path, 1))
    model = only(scan_hub(tmp_path / "hub"))
    assert (model.up, model.quant, model.first.commit) == (f"{REPO}:Q4_K_M", "Q4_K_M", COMMIT)
    assert (model.first.disk.path, model.bytes) == (link, link.stat().st_size)
    assert model.first.disk.is_link
    assert offered(model, facts_of(link)).architecture == "llama"  # type: ignore[union-attr]


def test_the_same_file_of_two_commits_is_one_model_of_the_current_one(tmp_path: Path) -> None:
    for commit in (LATER, COMMIT):
        put_in_hub(tmp_path, REPO, "Model-Q4_K_M.gguf", content(tmp_path, 1), commit)
    put_in_hub(tmp_path, REPO, "Model-Q8_0.gguf", content(tmp_path, 2), LATER)
    (tmp_path / "models--someone--Model-GGUF/refs/main").write_text(LATER)
    models = models_of(scan_hub(tmp_path).files)
    assert [(model.up, model.first.commit) for model in models] == [
        (f"{REPO}:Q4_K_M", LATER),
        (f"{REPO}:Q8_0", LATER),
    ]


def test_an_older_commit_is_named_by_its_commit(tmp_path: Path) -> None:
    put_in_hub(tmp_path, REPO, "Model-Q4_K_M.gguf", content(tmp_path, 1), COMMIT)
    put_in_hub(tmp_path, REPO, "Model-Q4_K_M.gguf", content(tmp_path, 2), LATER)
    assert ups(scan_hub(tmp_path)) == [f"{REPO}:Q4_K_M", f"{REPO}:Q4_K_M@{COMMIT}"]


def test_two_models_of_one_quant_are_named_by_their_files(tmp_path: Path) -> None:
    for number, name in enumerate(("A-1B-Q4_K_M.gguf", "A-3B-Q4_K_M.gguf")):
        put_in_hub(tmp_path, REPO, name, content(tmp_path, number))
    assert ups(scan_hub(tmp_path)) == [f"{REPO}:A-1B-Q4_K_M.gguf", f"{REPO}:A-3B-Q4_K_M.gguf"]


def test_a_file_that_a_profile_lists_is_called_by_the_profile(tmp_path: Path) -> None:
    put_in_hub(tmp_path, REPO, "Model-Q4_K_M.gguf", content(tmp_path, 1))
    known = {(REPO, "Model-Q4_K_M.gguf"): "model --quant Q4_K_M"}
    (model,) = models_of(scan_hub(tmp_path).files, known)
    assert model.up == "model --quant Q4_K_M"
    assert find_model((model,), f"{REPO}:q4_k_m") == (model,)


def test_parts_are_one_model_and_a_missing_part_makes_it_none(tmp_path: Path) -> None:
    for part in (1, 2):
        put_in_hub(
            tmp_path, REPO, f"Q8_0/Model-Q8_0-0000{part}-of-00002.gguf", content(tmp_path, part, "llama")
        )
    model = only(scan_hub(tmp_path))
    assert len(model.files) == 2
    assert model.up == f"{REPO}:Q8_0"
    (
        tmp_path / f"models--someone--Model-GGUF/snapshots/{COMMIT}/Q8_0/Model-Q8_0-00002-of-00002.gguf"
    ).unlink()
    assert ups(scan_hub(tmp_path)) == []


def test_projectors_adapters_and_matrices_are_not_offered(tmp_path: Path) -> None:
    names = ("mmproj-F16.gguf", "Model.imatrix.gguf", "style-lora-F16.gguf", "ggml-vocab-x.gguf", "notes.txt")
    for number, name in enumerate(names):
        put_in_hub(tmp_path, REPO, name, content(tmp_path, number))
    assert ups(scan_hub(tmp_path)) == []
    clip = put_in_lm_studio(tmp_path / "own", REPO, "innocent.gguf", content(tmp_path / "made", 9, "clip"))
    found = only(scan_folder(tmp_path / "own"))
    assert offered(found, facts_of(clip)) is None
    assert offered(found, None) is None


def test_llama_cpps_older_cache_gives_the_repository_of_its_table(tmp_path: Path) -> None:
    path = put_in_llama_cpp(tmp_path, REPO, "q4/model-q4_k_m.gguf", "Q4_K_M", content(tmp_path / "x", 1))
    put_in_hub(tmp_path, "other/New-GGUF", "New-Q8_0.gguf", content(tmp_path / "x", 2))
    models = models_of(scan_llama_cpp(tmp_path).files)
    assert [(model.first.origin, model.up, model.first.repo) for model in models] == [
        ("hub", "other/New-GGUF:Q8_0", "other/New-GGUF"),
        ("llama.cpp", str(path), REPO),
    ]


def test_lm_studios_folder_gives_paths_and_repositories(tmp_path: Path) -> None:
    path = put_in_lm_studio(
        tmp_path, "lmstudio-community/Qwen3-4B-GGUF", "a b-Q6_K.gguf", content(tmp_path, 1)
    )
    (tmp_path / "content-1.gguf").unlink()
    model = only(scan_folder(tmp_path, "LM Studio"))
    assert (model.up, model.quant) == (f"'{path}'", "Q6_K")
    assert model.first.repo == "lmstudio-community/Qwen3-4B-GGUF"
    assert find_model((model,), str(path)) == (model,)


def test_ollamas_manifests_give_names_to_blobs(tmp_path: Path) -> None:
    put_in_ollama(tmp_path, "smollm2", "135m", content(tmp_path / "x", 1))
    model = only(scan_ollama(tmp_path))
    assert model.first.label == "smollm2:135m"
    assert (model.quant, model.architecture) == ("Q4_1", "llama")
    assert Path(model.up).parent == tmp_path / "blobs"
    assert find_model((model,), "smollm2:135m") == (model,)


OUTSIDE = "sha256:x/../../../x/content-1.gguf"


@pytest.mark.parametrize(
    "manifest",
    [
        json.dumps({"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": OUTSIDE}]}),
        "",
        "[]",
        "{" * 100_000,
        '{"layers": 5}',
        '{"layers": [5, {"mediaType": "application/vnd.ollama.image.model"}]}',
        json.dumps(
            {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x"}]}
        ),
        json.dumps(
            {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "/etc/passwd"}]}
        ),
        json.dumps({"layers": [], "config": {"digest": "sha256:" + "0" * 64}}),
        " " * 2**21,
    ],
)
def test_a_hostile_manifest_names_nothing(tmp_path: Path, manifest: str) -> None:
    path = put_in_ollama(tmp_path / "o", "evil", "latest", content(tmp_path / "x", 1))
    path.write_text(manifest)
    (tmp_path / "o/blobs/sha256-x").mkdir()
    assert scan_ollama(tmp_path / "o") == Scanned(())


def test_a_blob_that_is_a_link_out_of_the_folder_is_what_it_leads_to_and_no_more(tmp_path: Path) -> None:
    put_in_ollama(tmp_path / "o", "m", "latest", content(tmp_path / "x", 1))
    blob = only(scan_ollama(tmp_path / "o")).first.disk.path
    blob.unlink()
    blob.symlink_to("/dev/zero")
    assert scan_ollama(tmp_path / "o").files == ()


def test_a_walk_is_bounded_and_follows_no_link_to_a_folder(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.gguf").touch()
    (tmp_path / "again").symlink_to(tmp_path)
    deep = tmp_path / "/".join("abcdefghijkl")
    deep.mkdir(parents=True)
    (deep / "x.gguf").touch()
    assert len(walk(tmp_path).files) == 20
    few = walk(tmp_path, entries=5)
    assert len(few.files) <= 5
    assert few.notes == (f"{tmp_path} has more than 5 entries; the rest is not looked at",)
    assert walk(tmp_path / "nowhere").files == ()


def test_a_folder_that_cannot_be_read_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")  # root may read a closed folder, but not this one
    assert walk(tmp_path / "round").notes == (
        f"cannot read {tmp_path / 'round'}: too many levels of symbolic links",
    )


def test_names_that_would_disturb_a_terminal_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "evil\x1b[2J-Q4_K_M.gguf").write_bytes(content(tmp_path / "x", 1))
    os.mkdir(bytes(tmp_path) + b"/not\xffutf8")  # noqa: PTH102 - no text is that name
    assert [path.name for path in walk(tmp_path).files if path.parent == tmp_path] == []
    put_in_hub(tmp_path / "hub", "evil\x1b[2J/Model-GGUF", "Model-Q8_0.gguf", content(tmp_path / "x", 2))
    put_in_hub(tmp_path / "hub", "..--../x", "Model-Q8_0.gguf", content(tmp_path / "x", 3))
    assert ups(scan_hub(tmp_path / "hub")) == []


def test_what_is_no_file_or_too_long_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    assert look_at(tmp_path / "pipe.gguf") is None
    (tmp_path / "dead.gguf").symlink_to("nowhere")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    assert scan_folder(tmp_path).files == ()
    (tmp_path / "long.json").write_bytes(bytes(2**21))
    assert read_small(tmp_path / "long.json") == b""


def test_a_quant_that_the_name_lacks_is_the_headers(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(1024 + 15)  # a guessed Q4_K_M
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    shown = offered(only(scan_folder(tmp_path)), facts_of(path))
    assert shown is not None
    assert shown.quant == "Q4_K_M"


def test_what_is_served_is_served_under_every_name(tmp_path: Path) -> None:
    first = put_in_lm_studio(tmp_path / "a", REPO, "m-Q8_0.gguf", content(tmp_path / "x", 1))
    (tmp_path / "b").mkdir()
    os.link(first, tmp_path / "b/other-Q8_0.gguf")
    model = only(scan_folder(tmp_path / "b"))
    assert in_use(model, {model.first.disk.inode: "served"}).use == "served"
    assert in_use(model, {}).use is None
