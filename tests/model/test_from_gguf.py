"""A header says what a file is: its title, quant, sizes and presets, or that it is no model at all."""

from dataclasses import replace

import pytest

from qwenctl.errors import FetchError
from qwenctl.model.architecture import architecture_of
from qwenctl.model.families import GENERAL
from qwenctl.model.from_gguf import (
    BASE_MODEL,
    is_quant_name,
    other_kind,
    profile_from_gguf,
    quant_name,
    stem,
    switches_of,
    title_of,
)
from qwenctl.model.gguf_header import Header, Skipped
from qwenctl.model.profile import File, Profile
from tests.fakes.headers import F16, Q4_K, header
from tests.fakes.machines import profile

FILE = "Some-Model-8B-Q4_K_M.gguf"
SIZE = 1_000_000


def made(
    one: Header, *known: Profile, file: str = FILE, named: str | None = None, parts: tuple[Header, ...] = ()
) -> Profile:
    files = tuple(File(name=f"{part}-{file}", bytes=SIZE) for part in range(len(parts)))
    return profile_from_gguf((one, *parts), (File(name=file, bytes=SIZE), *files), known, named)


def twin() -> tuple[Header, Profile]:
    """A header, and a profile of the same shape."""
    one = header()
    shaped = profile("qwen3.5-9b").model_copy(
        update={"architecture": architecture_of(one).model_copy(update={"header_bytes": 7})}
    )
    return one, shaped


def test_a_file_is_one_quant_of_its_real_size() -> None:
    one = made(header())
    (quant,) = one.quants
    assert (one.made, one.rows, one.hub) == (True, (), None)
    assert (one.name, quant.name, quant.bytes) == (FILE.removesuffix(".gguf"), "Q4_K_M", SIZE)
    assert quant.token_embd_bytes == 256 * 512 * 34 // 32
    assert quant.output_bytes == 256 * 512 * 144 // 256
    assert quant.layer_bytes == (256 * 144, 256 * 144)
    assert not quant.estimated
    assert 4.5 < quant.bits_per_weight < 8.5


def test_all_parts_of_a_split_file_count() -> None:
    one = made(header(), parts=(replace(header(), keys={}),))
    (quant,) = one.quants
    assert quant.bytes == 2 * SIZE
    assert [file.name for file in quant.files] == [FILE, f"0-{FILE}"]
    assert quant.layer_bytes == (2 * 256 * 144, 2 * 256 * 144)


@pytest.mark.parametrize(
    ("file", "file_type", "quant"),
    [
        ("x.gguf", 15, "Q4_K_M"),
        ("x.gguf", 15 | 1024, "Q4_K_M"),
        ("x-Q8_0.gguf", 15, "Q4_K_M"),
        ("x-UD-Q4_K_XL.gguf", 15, "UD-Q4_K_XL"),
        ("x.i1-Q4_K_M.gguf", 15, "i1-Q4_K_M"),
        ("x-Q4_K_L.gguf", 15, "Q4_K_L"),
        ("x.q5_k_m.gguf", None, "Q5_K_M"),
        ("x-IQ3_XXS-00001-of-00002.gguf", None, "IQ3_XXS"),
        ("x-Q8-merge-F16.gguf", None, "F16"),
        ("x.gguf", 999, "Q4_K"),
        ("model.gguf", None, "Q4_K"),
    ],
)
def test_the_quant_is_named_as_its_publisher_does_if_llama_cpp_has_no_such_name(
    file: str, file_type: int | None, quant: str
) -> None:
    keys = {} if file_type is None else {"general.file_type": file_type}
    assert quant_name(header(keys=keys), file) == quant


def test_a_file_of_a_16_bit_type_without_any_name_is_named_after_its_tensors() -> None:
    assert quant_name(header(kind=F16), "x.gguf") == "F16"
    assert quant_name(header(kind=Q4_K), "x.gguf") == "Q4_K"


@pytest.mark.parametrize(
    ("keys", "title"),
    [
        ({"general.name": "Llama 3.1 8B"}, "Llama 3.1 8B"),
        ({"general.basename": "Qwen3", "general.size_label": "8B"}, "Qwen3 8B"),
        ({}, "Some-Model-8B-Q4_K_M"),
        ({"general.name": "\x1b[31m\n\t"}, "[31m"),
        ({"general.name": "\n"}, "Some-Model-8B-Q4_K_M"),
        ({"general.name": "x" * 500}, "x" * 80),
        ({"general.name": 3}, "Some-Model-8B-Q4_K_M"),
    ],
)
def test_the_title_is_what_the_model_calls_itself_and_fit_to_be_printed(
    keys: dict[str, str | int], title: str
) -> None:
    assert title_of(header(keys=keys), FILE) == title


def test_a_name_is_fit_for_a_command_line() -> None:
    assert stem("a/My model, v2-00001-of-00003.gguf") == "My-model-v2"
    assert stem(".gguf") == "model"


def test_a_profile_of_the_same_shape_lends_its_presets_and_its_advice() -> None:
    one, shaped = twin()
    lent = made(one, profile("demo"), shaped)
    assert lent.sampling == shaped.sampling
    assert lent.settings == shaped.settings
    assert (lent.name, lent.hub, lent.rows) == (stem(FILE), None, ())
    assert lent.architecture.header_bytes == 1024, "its own numbers, not the lender's"


def test_of_two_profiles_of_one_shape_the_one_with_the_like_title_lends() -> None:
    one, shaped = twin()
    other = shaped.model_copy(update={"title": "Llama 3.1 8B", "note": "mine"})
    assert made(header(keys={"general.name": "llama-3.1 8b"}), shaped, other).note == "mine"
    assert made(one, other, shaped).architecture == architecture_of(one)


def test_a_profile_named_beside_the_file_keeps_its_name_if_the_shape_is_right() -> None:
    one, shaped = twin()
    lent = made(one, shaped, named=shaped.name)
    assert (lent.name, lent.title) == (shaped.name, shaped.title)
    other = made(one, profile("qwen3.6-27b"), named="qwen3.6-27b")
    assert other.name == stem(FILE)
    assert "the file is not Qwen3.6 27B" in (other.note or "")


@pytest.mark.parametrize(
    ("architecture", "name", "temperature", "instruct"),
    [
        ("llama", "Smollm2 135M Instruct", 0.2, 0.2),
        ("llama", "Meta Llama 3.1 8B Instruct", 0.6, 0.6),
        ("llama", "DeepSeek R1 Distill Llama 8B", 0.6, 0.6),
        ("llama", "Mistral Small 24B Instruct 2501", 0.15, 0.15),
        ("llama", "Devstral Small 2505", 0.15, 0.15),
        ("qwen2", "Qwen2.5 7B Instruct", 0.7, 0.7),
        ("qwen2", "DeepSeek R1 Distill Qwen 7B", 0.6, 0.6),
        ("qwen3", "Qwen3 8B", 0.6, 0.7),
        ("qwen3moe", "Qwen3 Coder 30B A3B Instruct", 0.7, 0.7),
        ("qwen3moe", "Qwen3 30B A3B Instruct 2507", 0.7, 0.7),
        ("gemma3", "Gemma 3 270m", 1.0, 1.0),
        ("gpt-oss", "Gpt Oss 20b", 1.0, 1.0),
        ("smollm3", "SmolLM3 3B", 0.6, 0.6),
        ("glm4", "GLM Z1 9B 0414", 0.6, 0.6),
    ],
)
def test_a_common_family_has_the_presets_of_its_model_card(
    architecture: str, name: str, temperature: float, instruct: float
) -> None:
    one = made(header(architecture, {"general.name": name}))
    assert one.sampling["coding"].temperature == temperature
    assert one.sampling["instruct"].temperature == instruct
    assert one.sampling["coding"].source != GENERAL.source


def test_an_unknown_family_has_the_numbers_of_its_own_header_else_general_ones() -> None:
    own = made(
        header(
            "falcon",
            {"general.sampling.temp": 0.33, "general.sampling.top_k": 7, "general.sampling.xtc": 1.0},
        )
    )
    assert (own.sampling["coding"].temperature, own.sampling["coding"].top_k) == (0.33, 7)
    assert own.sampling["coding"].top_p == GENERAL.top_p
    assert made(header("falcon")).sampling["coding"] == GENERAL
    hostile = made(header("falcon", {"general.sampling.temp": float("nan"), "general.sampling.top_p": "x"}))
    assert hostile.sampling["coding"] == GENERAL


def test_a_file_without_a_chat_template_is_called_a_base_model() -> None:
    assert made(header(template=None)).note == BASE_MODEL
    assert made(header()).note is None


def test_only_the_switches_that_the_template_reads_are_used() -> None:
    assert made(header()).thinking == ()
    assert made(header(template="{% if enable_thinking %}")).thinking == ("enable_thinking",)
    assert switches_of("{{ preserve_thinking }}{{ enable_thinking }}") == (
        "enable_thinking",
        "preserve_thinking",
    )
    assert switches_of(None) == ()
    assert switches_of(Skipped(10**6)) == ("enable_thinking", "preserve_thinking", "reasoning_effort")


@pytest.mark.parametrize(
    ("one", "what"),
    [
        (header("clip"), "projector"),
        (header(keys={"general.type": "mmproj"}), "projector"),
        (header(keys={"general.type": "adapter"}), "adapter"),
        (header("controlvector"), "adapter"),
        (header(None, {"general.type": "imatrix"}), "importance matrix"),
        (replace(header(), tensors=()), "vocabulary"),
        (header("bert"), "embedding model"),
    ],
)
def test_what_is_no_model_is_called_by_its_name(one: Header, what: str) -> None:
    kind = other_kind(one)
    assert kind is not None
    assert what in kind.what
    assert kind.hint


def test_a_model_and_the_first_part_of_one_are_no_other_kind() -> None:
    assert other_kind(header()) is None
    assert other_kind(header(keys={"general.type": "model"})) is None
    assert other_kind(replace(header(keys={"split.count": 2}), tensors=())) is None


@pytest.mark.parametrize(
    "keys",
    [
        {"llama.block_count": 0},
        {"llama.block_count": -1},
        {"llama.block_count": "x"},
        {"llama.context_length": 0},
        {"llama.embedding_length": 0},
    ],
)
def test_an_impossible_number_is_one_clear_line(keys: dict[str, int | str]) -> None:
    with pytest.raises(FetchError, match="cannot use the file"):
        made(header(keys=keys))


def test_a_made_profile_survives_the_disk() -> None:
    one = made(header())
    assert Profile.model_validate_json(one.model_dump_json(by_alias=True)) == one


@pytest.mark.parametrize(
    "name", ["Q5_K_M", "q5km", "UD-Q4_K_XL", "ud-q6kxl", "IQ2_XXS", "i1-Q4_K_S", "MXFP4"]
)
def test_a_quants_name_is_known_in_any_spelling(name: str) -> None:
    assert is_quant_name(name)
    assert not is_quant_name(f"{name}X9")
    assert not is_quant_name("Q9_X")
