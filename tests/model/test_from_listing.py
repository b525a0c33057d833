"""The files of real repositories become quants: names, parts, companions, order, sizes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.model.architecture import Architecture
from qwenctl.model.from_listing import (
    ListedModel,
    first_header,
    in_order,
    parameters_of,
    quants_of,
    repository_of,
    with_listing,
)
from qwenctl.model.gguf_name import quant_in, read_name
from qwenctl.model.profile import File
from qwenctl.model.toml import read_profile
from tests.model import listings

PROFILES = Path(__file__).parents[2] / "profiles"
QWEN_27B = read_profile(PROFILES / "qwen3.6-27b.toml")


def labels(models: tuple[ListedModel, ...]) -> list[str]:
    return [model.label for model in models]


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("Qwen3.6-27B-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-7b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("gemma3-270m-q4-k-m.gguf", "Q4_K_M"),
        ("model.Q4_K_S.gguf", "Q4_K_S"),
        ("model.i1-IQ4_XS.gguf", "i1-IQ4_XS"),
        ("model_q8_0.gguf", "Q8_0"),
        ("Qwen3.6-27B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Qwen3.5-9B-ud-q4_k_xl.gguf", "UD-Q4_K_XL"),
        ("UD-Q8_K_XL/Qwen3.6-27B-UD-Q8_K_XL-00001-of-00002.gguf", "UD-Q8_K_XL"),
        ("Q4_K_M/model-00001-of-00002.gguf", "Q4_K_M"),
        ("x-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("x-UD-TQ1_0.gguf", "UD-TQ1_0"),
        ("x-IQ4_NL.gguf", "IQ4_NL"),
        ("x-IQ3_M.gguf", "IQ3_M"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("x-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("x-NVFP4.gguf", "NVFP4"),
        ("Qwen_Qwen3-32B-bf16/Qwen_Qwen3-32B-bf16-00001-of-00002.gguf", "BF16"),
        ("deepseek-r1-distill-qwen-1.5b-fp16.gguf", "F16"),
        ("x-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("x-Q4_K_L.gguf", "Q4_K_L"),
        ("x-Q6_K_XL.gguf", "Q6_K_XL"),
        ("x-f16.Q6_K.gguf", "Q6_K"),
        ("Llama-3.2-1B-Instruct-Q4_K_M-imat.gguf", "Q4_K_M"),
        ("Qwen3-Coder-30B-A3B-Instruct.gguf", None),
        ("Kimi-K2-Instruct.gguf", None),
    ],
)
def test_a_quant_is_read_from_a_name_in_every_usual_spelling(name: str, quant: str | None) -> None:
    assert quant_in(name) == quant


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mmproj-F16.gguf", "projector"),
        ("Qwen2.5-VL-7B.mmproj-Q8_0.gguf", "projector"),
        ("MTP/mtp-Model-Q8_0.gguf", "mtp"),
        ("Model-MTP.gguf", "mtp"),
        ("imatrix.dat", "imatrix"),
        ("translategemma-12b-it.imatrix.gguf", "imatrix"),
        ("Model-BF16-imatrix.gguf", "imatrix"),
        ("imatrix_unsloth.gguf_file", "imatrix"),
        ("ggml-vocab-llama-bpe.gguf", "vocabulary"),
        ("Model-draft-Q8_0.gguf", "draft"),
        ("eagle3-Model-F16.gguf", "draft"),
        ("my-style-lora-F16.gguf", "adapter"),
        ("Model-IQ4_KS.gguf", "unusable"),
        ("Model.Q8_0.gguf.part1of2", "unusable"),
        ("Model-Q4_K_M.gguf", "model"),
        ("Model-imatrix-Q4_K_M.gguf", "model"),
        ("Lora-the-Explorer-merged-Q4_K_M.gguf", "model"),
        ("README.md", None),
        ("model.safetensors", None),
    ],
)
def test_what_is_no_model_is_told_apart_by_its_name(name: str, kind: str | None) -> None:
    found = read_name(name)
    assert (found and found.kind) == kind


def test_a_listing_of_twenty_four_quants_is_read_whole_with_its_imatrix_apart() -> None:
    repository = repository_of(listings.MRADERMACHER)
    assert len(repository.models) == 24
    assert labels(repository.models)[:3] == ["i1-Q6_K", "i1-Q5_K_M", "i1-Q5_K_S"]
    assert labels(repository.models)[-1] == "i1-IQ1_S"
    assert [one.kind for one in repository.others] == ["imatrix"]
    assert repository.names == ("translategemma12bit",)


def test_parts_of_a_split_file_are_one_model_and_a_missing_part_makes_it_none() -> None:
    repository = repository_of(listings.QWEN)
    assert labels(repository.models) == ["F16", "Q8_0", "Q4_K_M", "Q3_K_M", "Q2_K"]
    (four,) = repository.find("q4_k_m")
    assert (len(four.files), four.bytes) == (2, 4_680_000_000)
    folders = repository_of(listings.FOLDERS)
    assert labels(folders.models) == ["UD-IQ1_M"]
    assert folders.others[0].missing == ("UD-Q4_K_XL/Kimi-K2.7-Code-UD-Q4_K_XL-00002-of-00002.gguf",)


def test_companions_are_kept_apart_from_the_models() -> None:
    repository = repository_of(listings.UNSLOTH_WITH_MTP)
    assert labels(repository.models) == ["Q8_0", "UD-Q4_K_XL", "Q4_K_M"]
    assert len(repository.of_kind("projector")) == 3
    assert len(repository.of_kind("mtp")) == 3
    assert labels(repository_of(listings.BARTOWSKI).models)[0] == "BF16"
    only = repository_of((File(name="Qwen3.6-27B-MTP-Q4_K_M.gguf", bytes=17),))
    assert labels(only.models) == ["Q4_K_M"], "where there is nothing else, the twins are the models"


def test_a_repository_of_several_models_needs_the_name_of_a_file() -> None:
    repository = repository_of(listings.SEVERAL_MODELS)
    assert len(repository.names) == 2
    assert len(repository.find("Q4_K_M")) == 2
    (one,) = repository.find("Llama-3.2-3B-Instruct-Q4_K_M.gguf")
    assert one.bytes == 2_020_000_000
    assert {one.kind for one in repository.others} == {"vocabulary", "draft", "adapter", "unusable"}


@pytest.mark.parametrize("wanted", ["q4_k_m", "Q4KM", "i1-Q4_K_M", "I1Q4KM", "q4-k-m"])
def test_case_and_punctuation_of_a_quant_do_not_matter(wanted: str) -> None:
    (found,) = repository_of(listings.MRADERMACHER).find(wanted)
    assert found.quant == "i1-Q4_K_M"


def test_a_plain_name_means_the_plain_quant_where_there_are_both() -> None:
    repository = repository_of(
        (File(name="m-Q4_K_XL.gguf", bytes=5), File(name="m-UD-Q4_K_XL.gguf", bytes=6))
    )
    assert labels(repository.find("Q4_K_XL")) == ["Q4_K_XL"]
    assert labels(repository.find("udq4kxl")) == ["UD-Q4_K_XL"]
    assert repository.find("Q5_K_M") == ()


def test_the_header_that_is_read_first_is_the_usual_quants() -> None:
    assert first_header(repository_of(listings.MRADERMACHER)).label == "i1-Q4_K_M"  # type: ignore[union-attr]
    assert first_header(repository_of(listings.LMSTUDIO)).label == "Q4_K_M"  # type: ignore[union-attr]
    assert first_header(repository_of(listings.GGML_ORG)).label == "MXFP4"  # type: ignore[union-attr]
    assert first_header(repository_of(())) is None


SHAPE = Architecture(
    name="gemma3",
    block_count=48,
    embedding_length=3840,
    head_count=16,
    head_count_kv=8,
    key_length=256,
    value_length=256,
    vocab_size=262144,
    context_length=131072,
    tied_embeddings=True,
    source="google/gemma-3-12b-it",
)


def test_quants_are_ordered_by_bits_and_the_extremes_must_be_named() -> None:
    repository = repository_of(listings.MRADERMACHER)
    quants = quants_of(repository.models, SHAPE, parameters=11_765_788_416)
    bits = [quant.bits_per_weight for quant in quants]
    assert bits == sorted(bits, reverse=True)
    assert quants[0].name == "i1-Q6_K"
    assert 6.5 < quants[0].bits_per_weight < 6.8
    named = {quant.name for quant in quants if quant.named_only}
    assert named == {"i1-IQ1_S", "i1-IQ1_M", "i1-IQ2_XXS", "i1-IQ2_XS", "i1-IQ2_S", "i1-IQ2_M"} | (
        named & {"i1-Q2_K_S"}
    )
    assert all(quant.estimated for quant in quants)
    assert all(quant.output_bytes is None for quant in quants), "the embedding is tied"
    floats = quants_of(repository_of(listings.UNSLOTH).models, SHAPE, parameters=8_953_803_264)
    assert [quant.name for quant in floats if quant.named_only] == ["BF16", "UD-IQ2_XXS"]


def test_where_there_is_nothing_else_even_the_extremes_are_chosen() -> None:
    (only,) = quants_of(repository_of((File(name="m-F16.gguf", bytes=10**9),)).models, SHAPE)
    assert only.named_only is False


def test_a_known_divergence_decides_among_those_that_have_one() -> None:
    def quant(name: str, bits: float, divergence: float | None) -> object:
        return QWEN_27B.quants[0].model_copy(
            update={"name": name, "bits_per_weight": bits, "kl_divergence": divergence}
        )

    listed = [quant("a", 5.0, 0.03), quant("b", 4.9, None), quant("c", 4.6, 0.01)]
    assert [one.name for one in in_order(listed)] == ["c", "b", "a"]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K", "BF16", "UD-Q4_K_XL"])
def test_the_embedding_estimated_from_a_name_is_what_the_profile_knows(name: str) -> None:
    """The profile's numbers were read from published files, or from llama-quantize --dry-run."""
    known = QWEN_27B.quant(name)
    assert known is not None
    listed = repository_of(known.files).models
    (made,) = quants_of(listed, QWEN_27B.architecture)
    assert made.token_embd_bytes == pytest.approx(known.token_embd_bytes, rel=0.002)
    assert made.output_bytes == pytest.approx(known.output_bytes, rel=0.002)


SHA = "ac310abf2895aa397121bad6c0be89466af41f0f1606a21c1131b110eeb19d0e"
ADDED = listings.files(
    {
        "Qwen3.6-27B-UD-Q5_K_XL.gguf": 20_038_256_864,
        "Qwen3.6-27B-UD-IQ2_XXS.gguf": 9.0,
        "Qwen3.6-27B-UD-Q8_K_XL.gguf": 35.0,
        "mmproj-F16.gguf": 927607360,
    }
)
HUB_27B = tuple(file for quant in QWEN_27B.quants for file in quant.files)


def test_a_profile_is_completed_with_the_quants_that_its_repository_lists() -> None:
    lacking = {"UD-Q5_K_XL", "UD-IQ2_XXS", "UD-Q8_K_XL"}
    fewer = tuple(quant for quant in QWEN_27B.quants if quant.name not in lacking)
    base = QWEN_27B.model_copy(update={"quants": fewer})
    files = {file.name: file for quant in fewer for file in quant.files} | {file.name: file for file in ADDED}
    completed, warnings = with_listing(base, files.values())
    assert warnings == ()
    names = [quant.name for quant in completed.quants]
    assert set(names) - {quant.name for quant in fewer} == lacking
    assert [name for name in names if base.quant(name)] == [quant.name for quant in fewer]
    assert names.index("Q6_K") < names.index("UD-Q5_K_XL") < names.index("Q5_K_M")
    added = completed.quant("UD-Q5_K_XL")
    assert added is not None
    assert 5.9 < added.bits_per_weight < 6.0
    poorest = completed.quant("UD-IQ2_XXS")
    assert poorest is not None
    assert poorest.named_only


def test_a_listing_completes_sizes_and_hashes_and_warns_of_another_hash() -> None:
    files = {file.name: file for file in HUB_27B}
    files["Qwen3.6-27B-Q6_K.gguf"] = File(name="Qwen3.6-27B-Q6_K.gguf", bytes=22523238624, sha256=SHA)
    files["Qwen3.6-27B-Q4_K_M.gguf"] = File(name="Qwen3.6-27B-Q4_K_M.gguf", bytes=5, sha256=SHA)
    files["Qwen3.6-27B-Q2_K.gguf"] = File(name="Qwen3.6-27B-Q2_K.gguf", bytes=10_900_000_000)
    del files["Qwen3.6-27B-Q8_0.gguf"]
    completed, warnings = with_listing(QWEN_27B, files.values())
    found = {quant.name: quant.files[0] for quant in completed.quants}
    assert found["Q6_K"].sha256 == SHA
    assert found["Q2_K"].bytes == 10_900_000_000, "an estimated size is replaced"
    assert found["Q4_K_M"] == QWEN_27B.quant("Q4_K_M").files[0]  # type: ignore[union-attr]
    assert len(warnings) == 2
    assert "Q8_0.gguf is not in the repository" in warnings[0]
    assert f"Q4_K_M.gguf has sha256 {SHA[:12]}" in warnings[1]


def test_the_parameters_of_a_model_follow_from_its_quants() -> None:
    assert parameters_of(QWEN_27B.quants) == pytest.approx(26.9e9, rel=0.01)
    assert parameters_of(()) is None


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).map(lambda text: f"{text}.gguf")))
def test_any_names_are_grouped_without_a_loss(names: list[str]) -> None:
    files = tuple(File(name=name, bytes=number + 1) for number, name in enumerate(dict.fromkeys(names)))
    repository = repository_of(files)
    grouped = [file.name for one in (*repository.models, *repository.others) for file in one.files]
    assert sorted(grouped) == sorted(file.name for file in files)


PARTS = ("Model", "7B", "Instruct", "UD", "i1", "Q4", "K", "M", "IQ2", "XXS", "F16", "mtp", "00001-of-00002")


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=7), st.sampled_from("-_."))
def test_a_quant_that_was_read_is_read_again_from_its_own_spelling(words: list[str], separator: str) -> None:
    quant = quant_in(f"{separator.join(words)}.gguf")
    assert quant is None or quant_in(f"Model-{quant}.gguf") == quant
