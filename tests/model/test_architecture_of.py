"""A model's numbers from its header, its layers by kind, and whether two models have one shape."""

from pathlib import Path

import pytest

from qwenctl.errors import FetchError
from qwenctl.model.architecture import Architecture, architecture_of
from qwenctl.model.gguf_header import Header, Tensor
from qwenctl.model.layers import is_known, layers, same_shape, window_of
from qwenctl.model.tensor_sizes import sizes_of
from tests.fakes.machines import profile
from tests.fakes.shaped import write_shaped
from tests.fakes.shaped_families import MODELS, describe, write_family

BY_TITLE = {model.title: model for model in MODELS}


def written(folder: Path, title: str) -> Architecture:
    path = folder / "model.gguf"
    write_family(path, BY_TITLE[title], "Q8_0")
    return describe(path)[0].architecture


def kinds(model: Architecture) -> str:
    """Return one letter for each layer: Full, Window, Latent, Shared, - none; lower case for recurrent."""
    letters = {"full": "F", "window": "W", "latent": "L", "shared": "S", "none": "-"}
    return "".join(
        ("r" if layer.attention == "none" else letters[layer.attention].lower())
        if layer.recurrent
        else letters[layer.attention]
        for layer in layers(model)
    )


@pytest.mark.parametrize(
    ("title", "expected", "window"),
    [
        ("Llama 3.1 8B", "F" * 32, 0),
        ("Phi-4 14B", "F" * 40, 0),
        ("Gemma 2 9B", "WF" * 21, 4096),
        ("Gemma 3 12B", "WWWWWF" * 8, 1024),
        ("Gemma 3 270M", "WWWWWF" * 3, 512),
        ("gpt-oss 20B", "WF" * 12, 128),
        ("Llama 4 Scout", "WWWF" * 12, 8192),
        ("DeepSeek V2 Lite", "L" * 27, 0),
        ("Falcon H1 7B", "f" * 44, 0),
        ("Granite 4.0 H Tiny", "rrrrrFrrrrrrrrrFrrrrrrrrrFrrrrrrrrrFrrrr", 0),
        ("Nemotron Nano 9B v2", "r-r-r-rr-r-r-rF-r-r-rF-r-r-r-rF-r-r-r-rF-r-rr-r-r-r-r-r-", 0),
        ("Mamba 2 2.7B", "r" * 64, 0),
        ("LFM2 1.2B", "rrFrrFrrFrFrFrFr", 0),
        ("Gemma 3n E4B", "WWWWF" * 4 + "S" * 15, 512),
        ("Gemma 4 made up", "WWWWF" * 4 + "S" * 15, 512),
        ("Mixtral 8x7B", "F" * 32, 0),
        ("Command R7B", "WWWF" * 8, 4096),
        ("Qwen3 Next 80B A3B", "rrrF" * 12, 0),
    ],
)
def test_each_layer_is_of_the_kind_that_the_engine_makes_it(
    tmp_path: Path, title: str, expected: str, window: int
) -> None:
    model = written(tmp_path, title)
    assert kinds(model) == expected
    assert window_of(model) == window
    assert is_known(model)


@pytest.mark.parametrize("name", ["qwen3.5-2b", "qwen3.5-4b", "qwen3.5-9b", "qwen3.6-27b", "qwen3.6-35b-a3b"])
def test_a_header_of_a_shipped_model_has_the_shape_of_its_profile(tmp_path: Path, name: str) -> None:
    shipped = profile(name).architecture
    path = tmp_path / "model.gguf"
    write_shaped(path, shipped, lambda _: "BF16", tied=shipped.tied_embeddings)
    found = describe(path)[0].architecture
    assert same_shape(found, shipped)
    assert kinds(found) == "rrrF" * (shipped.block_count // 4)
    others = {"qwen3.5-2b", "qwen3.5-4b", "qwen3.5-9b", "qwen3.6-27b", "qwen3.6-35b-a3b"} - {name}
    assert not any(same_shape(found, profile(other).architecture) for other in others)


def test_the_block_for_multi_token_prediction_changes_no_shape_and_is_not_loaded() -> None:
    plain = profile("qwen3.6-27b").architecture
    drafting = plain.model_copy(update={"block_count": 65, "nextn_predict_layers": 1, "context_length": 1})
    assert same_shape(plain, drafting)
    assert layers(drafting)[-1].unused
    assert layers(drafting)[:-1] == layers(plain)


def test_padding_of_the_vocabulary_changes_no_shape_but_another_model_does() -> None:
    plain = profile("qwen3.6-27b").architecture
    assert same_shape(
        plain, plain.model_copy(update={"vocab_size": plain.vocab_size + 64, "header_bytes": 7})
    )
    for change in (
        {"block_count": 60},
        {"embedding_length": 4096},
        {"head_count_kv": 8},
        {"full_attention_interval": 2},
        {"feed_forward_length": 1024},
        {"name": "llama"},
        {"tied_embeddings": True},
        {"vocab_size": 151936},
    ):
        assert not same_shape(plain, plain.model_copy(update=change)), change


def test_a_family_nobody_knows_keeps_every_token_and_a_state_in_each_layer() -> None:
    model = profile("qwen3.6-27b").architecture.model_copy(update={"name": "new-family"})
    assert not is_known(model)
    assert kinds(model) == "f" * 64
    latent = {"key_length_mla": 192, "value_length_mla": 128, "ssm_inner_size": 0, "nextn_predict_layers": 1}
    assert kinds(model.model_copy(update=latent)) == "F" * 64


def header(keys: dict[str, object], *tensors: Tensor) -> Header:
    least = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
        "llama.context_length": 128,
        "llama.vocab_size": 100,
    }
    return Header(3, {**least, **keys}, tensors, 4096, 32)  # type: ignore[dict-item]


def test_a_number_by_layer_is_kept_with_its_largest() -> None:
    model = architecture_of(header({"llama.attention.head_count_kv": (4, 0)}))
    assert (model.head_count_kv, model.head_counts_kv) == (4, (4, 0))
    assert [layer.attention for layer in layers(model)] == ["full", "none"]
    same = architecture_of(header({"llama.attention.head_count_kv": (2, 2)}))
    assert (same.head_count_kv, same.head_counts_kv) == (2, ())
    assert architecture_of(header({})).head_count_kv == 4, "as many as heads where the key is missing"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"general.architecture": 7}, "names no architecture"),
        ({"llama.block_count": "two"}, "has no llama.block_count"),
        ({"llama.attention.head_count_kv": ("a", "b")}, "no array of numbers"),
        ({"llama.attention.head_count_kv": (-1, 2)}, "no array of numbers"),
        ({"llama.feed_forward_length": -1}, "llama.feed_forward_length is -1"),
    ],
)
def test_a_header_with_a_wrong_number_is_refused(keys: dict[str, object], said: str) -> None:
    with pytest.raises(FetchError, match=said):
        architecture_of(header(keys))


def test_sizes_are_added_up_by_place_over_all_parts_of_a_model() -> None:
    def tensor(name: str, values: int) -> Tensor:
        return Tensor(name, (values,), 0, 0, values * 4)

    first = header({}, tensor("token_embd.weight", 10), tensor("blk.0.a", 1), tensor("blk.1.a", 2))
    second = header(
        {}, tensor("blk.1.b", 3), tensor("output.weight", 20), tensor("per_layer_token_embd.weight", 5)
    )
    sizes = sizes_of((first, second))
    assert (sizes.token_embd_bytes, sizes.output_bytes, sizes.other_input_bytes) == (40, 80, 20)
    assert sizes.layer_bytes == (4, 20)
    assert sizes.total_bytes == 40 + 4 + 20 + 80 + 20
    assert sizes_of((first,)).output_bytes is None
    assert not sizes.unknown
    assert sizes_of((header({}, Tensor("blk.0.a", (1,), 999, 0, None)),)).unknown
    assert sizes_of((header({}, tensor("blk.4000000000.a", 1)),)).layer_bytes == ()
