"""Profiles: the shipped ones are right, and a wrong one is refused with a helpful message."""

from pathlib import Path

import pytest

from qwenctl.errors import ProfileError
from qwenctl.model.toml import find_profiles, load_profile, load_profiles, read_profile
from qwenctl.plan.budget import machines
from qwenctl.plan.order import recommended
from tests.fakes.machines import PROFILES, made_up, profile
from tests.fakes.shaped import size_of, tensors

SHIPPED = (
    "demo",
    "qwen3.5-2b",
    "qwen3.5-4b",
    "qwen3.5-9b",
    "qwen3.6-27b",
    "qwen3.6-35b-a3b",
    "qwen3.8-27b",
    "smollm2-135m",
)


def test_these_profiles_are_shipped() -> None:
    assert tuple(found.name for found in find_profiles(PROFILES, Path("/nowhere"))) == SHIPPED
    assert tuple(one.name for one in load_profiles(PROFILES, Path("/nowhere"))) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_quants_are_listed_from_large_to_small_and_rows_rise_with_memory(name: str) -> None:
    shipped = profile(name)
    choosable = [quant for quant in shipped.quants if not quant.named_only]
    names = [quant.name for quant in choosable]
    assert {row.quant for row in shipped.rows} <= set(names)
    for kind in ("dedicated", "unified", "shared", "cpu"):
        rows = sorted((row for row in shipped.rows if kind in row.memory), key=lambda row: row.at_least_gb)
        places = [names.index(row.quant) for row in rows]
        assert places == sorted(places, reverse=True), kind
    assert [quant.bytes for quant in choosable] == sorted((q.bytes for q in choosable), reverse=True)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.startswith("qwen")])
def test_the_published_q8_0_file_is_one_of_this_shape(name: str) -> None:
    """Tensors by the architecture's numbers at 8 bits, and a header as large as the 27B's: one vocabulary.

    A block for multi-token prediction comes on top.
    """
    shipped = profile(name)
    q8_0 = shipped.quant("Q8_0")
    assert q8_0 is not None
    model = shipped.architecture
    model = model.model_copy(update={"block_count": model.block_count - model.nextn_predict_layers})
    content = sum(
        size_of(tensor.shape, "F32" if tensor.plain else "Q8_0")
        for tensor in tensors(model, tied=model.tied_embeddings)
    )
    assert q8_0.bytes == model.header_bytes + content + q8_0.nextn_bytes
    assert abs(model.header_bytes - profile("qwen3.6-27b").architecture.header_bytes) < 40_000


@pytest.mark.parametrize(
    ("kind", "gb", "quant"),
    [
        ("dedicated", 15.9, None),
        ("dedicated", 16, "Q3_K_M"),
        ("dedicated", 24, "Q4_K_M"),
        ("dedicated", 32, "Q6_K"),
        ("dedicated", 48, "Q8_0"),
        ("dedicated", 159, "Q8_0"),
        ("dedicated", 160, "BF16"),
        ("unified", 16, "Q3_K_M"),
        ("unified", 32, "Q4_K_M"),
        ("shared", 48, "Q6_K"),
        ("unified", 127, "Q6_K"),
        ("unified", 128, "Q8_0"),
        ("cpu", 15.9, None),
        ("cpu", 31, "Q3_K_M"),
        ("cpu", 128, "Q8_0"),
    ],
)
def test_each_row_of_the_27b_holds_up_to_the_next(kind: str, gb: float, quant: str | None) -> None:
    size = int(gb * 1e9)
    if kind == "dedicated":
        hardware = made_up(ram_bytes=8 * 2**30, cards=(size,))
    elif kind == "cpu":
        hardware = made_up(ram_bytes=size)
    elif kind == "unified":
        hardware = made_up(ram_bytes=size, cards=(size // 2,), backend="metal", memory="unified")
    else:
        hardware = made_up(ram_bytes=size, cards=(size // 2,), backend="vulkan", memory="shared")
    best = recommended(machines(hardware)[0], profile("qwen3.6-27b"))
    assert (best.name if best else None) == quant


def write(folder: Path, *changes: tuple[str, str], name: str = "demo") -> Path:
    text = (PROFILES / "demo.toml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "cause", "hint"),
    [
        (("block_count", "block_cont"), "architecture.block_cont: unknown key", "did you mean block_count?"),
        (("generated", "genera"), "genera: unknown key", "did you mean generated?"),
        (("bits_per_weight", "bits_per_wait"), "quants.0.bits_per_wait: unknown key", "bits_per_weight?"),
        (("top_k", "topk"), "sampling.thinking-general.topk: unknown key", "did you mean top_k?"),
        (('quant = "F16"', 'quant = "F61"'), "'F61', which the profile lacks; did you mean 'F16'?", None),
        (("[sampling.coding]", "[sampling.codign]"), "sampling preset 'coding' is missing", None),
        (("tokens = 8192", "tokns = 8192"), "settings.context.tokns: unknown key", "did you mean tokens?"),
        (("tokens = 8192", "tokens = 8"), "settings.context.tokens: input should be greater", None),
        (("generated = true", ""), "neither hub nor generated", None),
        (('title = "', 'title = 3 # "'), "title: input should be a valid string", None),
        (("schema = 1", "schema = 2"), "schema: input should be 1", None),
        (("vocab_size = 261", "vocab_size = 0"), "vocab_size: input should be greater than 0", None),
        (('name = "demo"', 'name = "other"'), "it calls itself 'other'", "rename the file to other.toml"),
    ],
)
def test_a_wrong_profile_is_refused(
    tmp_path: Path, change: tuple[str, str], cause: str, hint: str | None
) -> None:
    with pytest.raises(ProfileError) as caught:
        read_profile(write(tmp_path, change))
    assert cause in caught.value.message
    assert caught.value.message.startswith("cannot use profile")
    if hint:
        assert caught.value.hint is not None
        assert hint in caught.value.hint


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("no toml", encoding="utf-8")
    with pytest.raises(ProfileError, match="cannot read profile"):
        read_profile(tmp_path / "x.toml")


def test_a_persons_own_profile_wins_over_a_shipped_one(tmp_path: Path) -> None:
    write(tmp_path, ('title = "Demo', 'title = "My demo'))
    assert load_profile("demo", PROFILES, tmp_path).title.startswith("My demo")
    assert {found.name: found.origin for found in find_profiles(PROFILES, tmp_path)}["demo"] == "own"


def test_an_unknown_profile_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        load_profile("qwen3.6-28b", PROFILES, tmp_path)
    assert caught.value.hint == "did you mean qwen3.6-27b?"


@pytest.mark.parametrize("text", [f"a = {'[' * 5000}{']' * 5000}", f"schema = {'9' * 5000}"])
def test_a_profile_that_python_cannot_read_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match="cannot read profile"):
        read_profile(path)
