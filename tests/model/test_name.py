"""What a person types for a model is understood in every usual spelling; a slip is answered in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import ProfileError, QwenctlError, SettingsError
from qwenctl.model.name import FilePath, HubModel, ModelName, ProfileName, layer_of, parse_name, quant_key

PROFILES = ("demo", "qwen3.5-9b", "qwen3.6-27b")
REPO = "unsloth/Qwen3.6-27B-GGUF"
PAGE = f"https://huggingface.co/{REPO}"
FILE = "Qwen3.6-27B-Q4_K_M.gguf"
SHA = "f" * 40


def parsed(text: str, *, is_file: bool = False) -> ModelName:
    return parse_name(text, PROFILES, is_file=is_file)


@pytest.mark.parametrize("text", ["qwen3.6-27b", "Qwen3.6-27B", " qwen3.6-27b\n"])
def test_a_profile_is_its_name_in_any_case(text: str) -> None:
    assert parsed(text) == ProfileName("qwen3.6-27b")


@pytest.mark.parametrize(
    "path",
    [
        "./x.gguf",
        "../x.gguf",
        "~/x.gguf",
        "/models/x.gguf",
        "x.gguf",
        "X.GGUF",
        "models/x.gguf",
        "a/b/c-00001-of-00003.gguf",
        "./no-ending",
        "~me/x",
        "./owner/repo:Q4_K_M",
    ],
)
def test_what_looks_like_a_path_is_one_also_when_nothing_is_there(path: str) -> None:
    assert parsed(path) == FilePath(path)


@pytest.mark.parametrize("name", ["weights", "owner/repo", "owner/repo:Q4", "sha256-abc"])
def test_a_file_that_is_there_goes_before_a_repository(name: str) -> None:
    assert parsed(name, is_file=True) == FilePath(name)


def test_a_profile_goes_before_a_file_of_that_name() -> None:
    assert parsed("demo", is_file=True) == ProfileName("demo")


def test_an_address_of_a_file_is_its_path() -> None:
    assert parsed("file:///models/my%20x.gguf") == FilePath("/models/my x.gguf")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (REPO, HubModel(REPO)),
        (f"{REPO}:Q4_K_M", HubModel(REPO, quant="Q4_K_M")),
        (f"{REPO}:ud-q4kxl", HubModel(REPO, quant="ud-q4kxl")),
        (f"{REPO}:Q3_K_S-2.70bpw", HubModel(REPO, quant="Q3_K_S-2.70bpw")),
        (f"{REPO}:latest", HubModel(REPO)),
        (f"{REPO}:{FILE}", HubModel(REPO, file=FILE)),
        (f"{REPO}:BF16/x-00001-of-00002.gguf", HubModel(REPO, file="BF16/x-00001-of-00002.gguf")),
        (f"{REPO}:BF16/x-00002-of-00002.gguf", HubModel(REPO, file="BF16/x-00001-of-00002.gguf")),
        (f"{REPO}@{SHA}", HubModel(REPO, revision=SHA)),
        (f"{REPO}:Q8_0@refs/pr/1", HubModel(REPO, quant="Q8_0", revision="refs/pr/1")),
        (PAGE, HubModel(REPO)),
        (f"{PAGE}/", HubModel(REPO)),
        (f"http://huggingface.co/{REPO}", HubModel(REPO)),
        (f"huggingface.co/{REPO}", HubModel(REPO)),
        (f"https://hf.co/{REPO}", HubModel(REPO)),
        (f"hf.co/{REPO}:Q4_K_M", HubModel(REPO, quant="Q4_K_M")),
        (f"https://hf-mirror.com/{REPO}", HubModel(REPO)),
        (f"{PAGE}?local-app=llama.cpp", HubModel(REPO)),
        (f"{PAGE}#usage", HubModel(REPO)),
        (f"{PAGE}?show_file_info={FILE}", HubModel(REPO, file=FILE)),
        (f"{PAGE}/tree/main", HubModel(REPO, revision="main")),
        (f"{PAGE}/tree/main/UD-Q8_K_XL", HubModel(REPO, quant="UD-Q8_K_XL", revision="main")),
        (f"{PAGE}/tree/refs%2Fpr%2F1", HubModel(REPO, revision="refs/pr/1")),
        (f"{PAGE}/blob/main/{FILE}", HubModel(REPO, file=FILE, revision="main")),
        (f"{PAGE}/blob/{SHA}/BF16/{FILE}", HubModel(REPO, file=f"BF16/{FILE}", revision=SHA)),
        (f"{PAGE}/resolve/main/{FILE}?download=true", HubModel(REPO, file=FILE, revision="main")),
        (f"{PAGE}/resolve/refs/pr/1/{FILE}", HubModel(REPO, file=FILE, revision="refs/pr/1")),
        (f"{PAGE}/discussions/3", HubModel(REPO)),
    ],
)
def test_a_repository_is_understood_as_written_and_as_pasted(text: str, named: HubModel) -> None:
    assert parsed(text) == named


@pytest.mark.parametrize(
    ("text", "error", "message", "hint"),
    [
        ("dmeo", ProfileError, "cannot find model 'dmeo': no profile has that name", "did you mean demo?"),
        ("llama3:8b", ProfileError, "cannot find model 'llama3:8b'", "OWNER/REPO"),
        ("", SettingsError, "cannot use model '': it is empty", "OWNER/REPO"),
        ("a\0b", SettingsError, "cannot use model", "OWNER/REPO"),
        ("x" * 5000, SettingsError, "cannot use model", "OWNER/REPO"),
        (
            f"{REPO}/{FILE}x",
            SettingsError,
            "there is no such file",
            f"is written {REPO}:{FILE}x",
        ),
        (f"{REPO}:model.safetensors", SettingsError, "neither a quant nor a GGUF file", None),
        (f"{REPO}:../../etc/x.gguf", SettingsError, "is no file of a repository", None),
        (f"{REPO}@../x", SettingsError, "is no branch, tag or commit", None),
        (f"{REPO}:a:b", SettingsError, "neither a quant nor a GGUF file", None),
        (f"{REPO}:a b", SettingsError, "neither a quant nor a GGUF file", None),
        ("own er/repo", SettingsError, "is not OWNER/REPO", None),
        ("owner/re--po", SettingsError, "is not OWNER/REPO", None),
        ("owner/", SettingsError, "is not OWNER/REPO", None),
        ("https://example.com/x.gguf", SettingsError, "it is no address of the hub", "download the file"),
        ("https://[", SettingsError, "cannot use model", None),
        ("https://huggingface.co/datasets/a/b", SettingsError, "not that of a model", None),
        ("https://huggingface.co/owner", SettingsError, "not that of a model", None),
        (f"{PAGE}/blob/main/README.md", SettingsError, "neither a quant nor a GGUF file", None),
    ],
)
def test_a_slip_is_one_line_with_a_hint(
    text: str, error: type[QwenctlError], message: str, hint: str | None
) -> None:
    with pytest.raises(error) as caught:
        parsed(text)
    assert caught.value.message.startswith("cannot ")
    assert message in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint
    assert len(caught.value.message) < 400
    assert hint is None or hint in caught.value.hint


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    for prefix in ("", "a/b", "a/b:", "a/b@", "https://huggingface.co/", f"{PAGE}/blob/"):
        try:
            named = parsed(prefix + text)
        except (ProfileError, SettingsError):
            continue
        layer_of(named)


@pytest.mark.parametrize("spelt", ["Q4_K_M", "q4_k_m", "Q4KM", "q4-k-m", "q4 k m"])
def test_case_and_punctuation_of_a_quant_do_not_matter(spelt: str) -> None:
    assert quant_key(spelt) == quant_key("Q4_K_M")
    assert quant_key(spelt) != quant_key("UD-Q4_K_M")


def test_a_name_takes_back_what_other_layers_say_of_the_model() -> None:
    assert layer_of(ProfileName("demo")) == {
        "profile": "demo",
        "model": {"path": None, "repo": None, "file": None, "revision": None, "quant": None},
    }
    assert layer_of(FilePath("/x.gguf")) == {
        "profile": None,
        "model": {"path": "/x.gguf", "repo": None, "file": None, "revision": None, "quant": None},
    }
    assert layer_of(HubModel(REPO, "Q4_K_M", None, "main")) == {
        "profile": None,
        "model": {"path": None, "repo": REPO, "file": None, "revision": "main", "quant": "Q4_K_M"},
    }
