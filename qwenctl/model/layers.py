"""Say what each layer of a model keeps: a model is a list of layers. Pure: no I/O.

Source: llama.cpp b11434, src/models (``load_arch_hparams``), src/llama-hparams.cpp and
``llama_model::create_memory``: which families exist, and how each decides the kind of a layer.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from qwenctl.model.architecture import Architecture

AttentionKind = Literal["full", "window", "latent", "shared", "none"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps for each token, and for each sequence.

    ``full`` keeps every token, ``window`` the last ones, ``latent`` one compressed row for keys and values
    together, ``shared`` reads the cache of an earlier layer. ``keys`` and ``values`` are counts for one
    token. A layer may be recurrent beside its attention (falcon-h1). ``unused`` layers are not even loaded:
    the blocks for multi-token prediction.
    """

    attention: AttentionKind
    keys: int = 0
    values: int = 0
    recurrent: bool = False
    experts: bool = False
    feed_forward: int = 0
    unused: bool = False


@dataclass(frozen=True, slots=True)
class WindowPattern:
    """One layer in ``every`` attends fully, the first or the last of each group; the others have a window.

    ``default`` is the window where the header names none, ``fixed`` the one whatever it names. ``optional``:
    a header without a window means a model without one.
    """

    every: int = 0
    full_first: bool = False
    default: int = 0
    fixed: int = 0
    optional: bool = False


WINDOWS = {
    "afmoe": WindowPattern(4, optional=True),
    "cohere2": WindowPattern(4),
    "cohere2moe": WindowPattern(4, full_first=True),
    "exaone-moe": WindowPattern(4, default=128),
    "exaone4": WindowPattern(4, default=4096),
    "gemma2": WindowPattern(2, default=4096),
    "gemma3": WindowPattern(6, optional=True),
    "gemma3n": WindowPattern(5),
    "gemma4": WindowPattern(),
    "gpt-oss": WindowPattern(2),
    "granite_swa": WindowPattern(),
    "laguna": WindowPattern(4, full_first=True, optional=True),
    "lfm2": WindowPattern(0, optional=True),
    "llama4": WindowPattern(4, fixed=8192),
    "maple": WindowPattern(),
    "mellum": WindowPattern(4, optional=True),
    "mimo2": WindowPattern(),
    "muse-glimmer": WindowPattern(4),
    "olmo2": WindowPattern(4, optional=True),
    "plamo3": WindowPattern(8, optional=True),
    "smallthinker": WindowPattern(4, full_first=True, fixed=4096, optional=True),
    "step35": WindowPattern(),
}
"""Families with a sliding window. Others ignore the header's key, phi3 and llama among them."""

RECURRENT_BY_INTERVAL = frozenset({"qwen35", "qwen35moe", "qwen3next"})
RECURRENT_WITHOUT_HEADS = frozenset(
    "jamba granitehybrid plamo2 lfm2 lfm2moe kimi-linear bailingmoe3 nemotron_h nemotron_h_moe".split()
)
"""A layer without key-value heads is recurrent (in nemotron_h only if it has no feed-forward network)."""
ALL_RECURRENT = frozenset("mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7".split())
BOTH = frozenset({"falcon-h1"})

PLAIN = frozenset(
    """
    llama deci falcon grok gpt2 gptj gptneox mpt baichuan starcoder refact bloom stablelm qwen qwen2 qwen2moe
    qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe phi2 phi3 phimoe plamo codeshell orion internlm2 minicpm
    minicpm3 gemma starcoder2 xverse command-r dbrx olmo olmoe openelm arctic deepseek deepseek2 deepseek2-ocr
    chatglm glm4 glm4moe bitnet jais jais2 nemotron exaone granite granitemoe chameleon plm bailingmoe
    bailingmoe2 dots1 arcee ernie4_5 ernie4_5-moe hunyuan-moe hunyuan-dense hunyuan_vl hy_v3 smollm3 seed_oss
    grovemoe apertus minimax-m2 cogvlm pangu-embedded mistral3 mistral4 paddleocr spark2_5 maincoder talkie
    """.split()
)
"""Families of which every layer keeps every token: keys and values, or a latent row where the header has
the lengths of multi-head latent attention."""

GEMMA3N_OWN_KV = 20
"""Layers of gemma3n that keep their own keys and values. Source: src/models/gemma3n.cpp."""


def is_known(model: Architecture) -> bool:
    """Say whether the kinds of this family's layers are known. If not, ``layers`` is an upper bound."""
    recurrent = RECURRENT_BY_INTERVAL | RECURRENT_WITHOUT_HEADS | ALL_RECURRENT | BOTH
    return model.name in PLAIN | recurrent or model.name in WINDOWS


def window_of(model: Architecture) -> int:
    """Return the size of the sliding window in tokens; 0 if no layer has one."""
    pattern = WINDOWS.get(model.name)
    if pattern is None or (pattern.optional and not model.sliding_window):
        return 0
    if model.name == "exaone4" and model.block_count - model.nextn_predict_layers != 64:
        return 0  # the small ones attend fully
    if pattern.fixed:
        return 0 if model.sliding_window == 0 else pattern.fixed
    return pattern.default if model.sliding_window is None else model.sliding_window


@lru_cache(maxsize=256)
def layers(model: Architecture) -> tuple[Layer, ...]:
    """Return every layer of the model, in order."""
    return tuple(_layer(model, index) for index in range(model.block_count))


def _layer(model: Architecture, index: int) -> Layer:
    if not is_known(model):
        return _bound(model, index)
    if index >= model.block_count - model.nextn_predict_layers:
        return Layer("none", unused=True)
    heads = _at(model.head_counts_kv, index, model.head_count_kv)
    deep = _at(model.feed_forward_lengths, index, model.feed_forward_length)
    recurrent = _is_recurrent(model, index, heads, deep)
    experts = _has_experts(model, index)
    attends = model.name not in ALL_RECURRENT and (not recurrent or model.name in BOTH)
    if model.name.startswith("nemotron_h"):
        attends = heads > 0 and not recurrent
    if not attends or heads == 0:
        return Layer("none", recurrent=recurrent, experts=experts, feed_forward=deep)
    windowed = window_of(model) > 0 and _is_windowed(model, index)
    keys = model.key_length_swa if windowed and model.key_length_swa else model.key_length
    values = model.value_length_swa if windowed and model.value_length_swa else model.value_length
    kind: AttentionKind = "window" if windowed else "full"
    if model.key_length_mla and model.value_length_mla:
        kind, values = "latent", 0
    if index >= model.block_count - _shared(model):
        kind = "shared"
    return Layer(kind, heads * keys, heads * values, recurrent, experts, deep)


def _bound(model: Architecture, index: int) -> Layer:
    """Return the most that a layer of a family nobody knows can keep: every token, and a state beside it."""
    heads = model.head_count_kv or model.head_count
    keys = heads * max(model.key_length, model.key_length_swa)
    values = heads * max(model.value_length, model.value_length_swa)
    states = model.ssm_inner_size or model.wkv_head_size or model.kda_head_dim or model.shortconv_l_cache
    deep = _at(model.feed_forward_lengths, index, model.feed_forward_length)
    return Layer("full", keys, values, states > 0, _has_experts(model, index), deep)


def _shared(model: Architecture) -> int:
    if model.name == "gemma3n":
        return max(0, model.block_count - GEMMA3N_OWN_KV)
    return model.shared_kv_layers if model.name == "gemma4" else 0


def _is_recurrent(model: Architecture, index: int, heads_kv: int, feed_forward: int) -> bool:
    if model.name in ALL_RECURRENT | BOTH:
        return True
    if model.name in RECURRENT_BY_INTERVAL:
        if model.recurrent_layers:
            return bool(_at(model.recurrent_layers, index, 0))
        return (index + 1) % model.full_attention_interval != 0
    if model.name.startswith("nemotron_h"):
        return heads_kv == 0 and feed_forward == 0
    return model.name in RECURRENT_WITHOUT_HEADS and heads_kv == 0


def _is_windowed(model: Architecture, index: int) -> bool:
    if model.sliding_window_layers:
        return bool(_at(model.sliding_window_layers, index, 0))
    pattern = WINDOWS[model.name]
    every = pattern.every if model.sliding_window_pattern is None else model.sliding_window_pattern
    if every == 0:
        return model.name == "lfm2" or model.sliding_window_pattern == 0
    return index % every != (0 if pattern.full_first else every - 1)


def _has_experts(model: Architecture, index: int) -> bool:
    if not model.expert_count or index < model.leading_dense_block_count:
        return False
    step = model.interleave_moe_layer_step
    return step == 0 or (index + 1) % step == 0


def _at(items: tuple[int, ...], index: int, default: int) -> int:
    return items[index] if index < len(items) else default


def same_shape(one: Architecture, other: Architecture) -> bool:
    """Say whether two models have the same numbers that memory depends on.

    Where the numbers come from, the length of the header, the longest context and the padding of the
    vocabulary do not count, nor do blocks for multi-token prediction, which are not loaded.
    """
    return _shape(one) == _shape(other) and abs(one.vocab_size - other.vocab_size) * 100 <= one.vocab_size


def _shape(model: Architecture) -> tuple[object, ...]:
    used = tuple(layer for layer in layers(model) if not layer.unused)
    experts = model.expert_count > 0
    networks = () if experts else tuple(layer.feed_forward for layer in used)
    return (
        model.name,
        tuple((layer.attention, layer.keys, layer.values, layer.recurrent, layer.experts) for layer in used),
        networks,
        model.embedding_length,
        model.head_count,
        window_of(model),
        (model.ssm_conv_kernel, model.ssm_state_size, model.ssm_group_count, model.ssm_inner_size),
        (model.expert_count, model.expert_used_count, model.expert_feed_forward_length),
        (model.shortconv_l_cache, model.wkv_head_size, model.kda_head_dim),
        model.tied_embeddings,
    )
