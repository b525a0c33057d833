"""Sparse GGUF files of the shapes of well-known models, one or more for each kind of layer.

Keys and tensor names as llama.cpp b11434 reads them (src/models). The numbers are those of the models'
published ``config.json`` files; the tensors are holes, so a file takes a few hundred KiB of disk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import gguf

from qwenctl.model.architecture import architecture_of
from qwenctl.model.gguf_header import read_header
from qwenctl.model.profile import File, Profile, Quant
from qwenctl.model.tensor_sizes import sizes_of
from tests.fakes.machines import profile
from tests.fakes.shaped import Tensor, write_hole

Value = int | float | str | list[int] | list[bool]
Tensors = Callable[["ShapedModel"], Iterator[Tensor]]


@dataclass(frozen=True, slots=True)
class ShapedModel:
    """One model: its GGUF keys without the architecture's prefix, its tensors, where the numbers are from."""

    title: str
    family: str
    keys: dict[str, Value]
    layer: Callable[["ShapedModel", int], Iterator[Tensor]]
    source: str
    tied: bool = False
    more: tuple[Tensor, ...] = ()
    output_norm: str = "output_norm.weight"
    flags: frozenset[str] = field(default_factory=frozenset)

    def number(self, key: str, index: int = 0) -> int:
        value = self.keys.get(key, 0)
        if isinstance(value, list):
            value = value[index]
        assert isinstance(value, int)
        return value

    @property
    def wide(self) -> int:
        return self.number("embedding_length")

    @property
    def head(self) -> int:
        return self.number("attention.key_length") or self.wide // self.number("attention.head_count")

    def tensors(self) -> Iterator[Tensor]:
        vocabulary = self.number("vocab_size")
        yield Tensor("token_embd.weight", (self.wide, vocabulary))
        yield from self.more
        for index in range(self.number("block_count")):
            for tensor in self.layer(self, index):
                yield Tensor(f"blk.{index}.{tensor.name}", tensor.shape, tensor.plain)
        yield Tensor(self.output_norm, (self.wide,), plain=True)
        if not self.tied:
            yield Tensor("output.weight", (self.wide, vocabulary))


def vector(name: str, length: int) -> Tensor:
    return Tensor(name, (length,), plain=True)


def matrix(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape)


def attention(model: ShapedModel, index: int) -> Iterator[Tensor]:
    heads, heads_kv = (
        model.number("attention.head_count", index),
        model.number("attention.head_count_kv", index),
    )
    wide, head, flags = model.wide, model.head, model.flags
    yield vector("attn_norm.weight", wide)
    if "fused_qkv" in flags:
        yield matrix("attn_qkv.weight", wide, (heads + 2 * heads_kv) * head)
    else:
        yield matrix("attn_q.weight", wide, heads * head)
        yield matrix("attn_k.weight", wide, heads_kv * head)
        yield matrix("attn_v.weight", wide, heads_kv * head)
    yield matrix("attn_output.weight", heads * head, wide)
    if "qkv_bias" in flags:
        yield vector("attn_q.bias", heads * head)
        yield vector("attn_k.bias", heads_kv * head)
        yield vector("attn_v.bias", heads_kv * head)
    if "qk_norm" in flags:
        yield vector("attn_q_norm.weight", head)
        yield vector("attn_k_norm.weight", head)


def dense(model: ShapedModel, index: int = 0) -> Iterator[Tensor]:
    deep, wide = model.number("feed_forward_length", index), model.wide
    if "fused_up" in model.flags:
        yield matrix("ffn_up.weight", wide, 2 * deep)
    else:
        if "no_gate" not in model.flags:
            yield matrix("ffn_gate.weight", wide, deep)
        yield matrix("ffn_up.weight", wide, deep)
    yield matrix("ffn_down.weight", deep, wide)


def experts(model: ShapedModel, deep: int, shared: int = 0) -> Iterator[Tensor]:
    wide, count = model.wide, model.number("expert_count")
    yield Tensor("ffn_gate_inp.weight", (wide, count), plain=True)
    yield matrix("ffn_gate_exps.weight", wide, deep, count)
    yield matrix("ffn_up_exps.weight", wide, deep, count)
    yield matrix("ffn_down_exps.weight", deep, wide, count)
    if shared:
        yield matrix("ffn_gate_shexp.weight", wide, shared)
        yield matrix("ffn_up_shexp.weight", wide, shared)
        yield matrix("ffn_down_shexp.weight", shared, wide)


def plain(model: ShapedModel, index: int) -> Iterator[Tensor]:
    """Yield a layer of llama, qwen2, qwen3, mistral3 or phi3."""
    yield from attention(model, index)
    yield vector("ffn_norm.weight", model.wide)
    yield from dense(model, index)


def post_normed(model: ShapedModel, index: int) -> Iterator[Tensor]:
    """Yield a layer of gemma or glm4: norms after attention and after the network, too."""
    yield from plain(model, index)
    yield vector("post_attention_norm.weight", model.wide)
    yield vector("post_ffw_norm.weight", model.wide)


def all_experts(model: ShapedModel, index: int) -> Iterator[Tensor]:
    """Yield a layer of qwen3moe or llama4."""
    yield from attention(model, index)
    yield vector("ffn_norm.weight", model.wide)
    yield from experts(
        model, model.number("expert_feed_forward_length"), model.number("expert_shared_feed_forward_length")
    )


def gpt_oss(model: ShapedModel, index: int) -> Iterator[Tensor]:
    wide, count, deep = model.wide, model.number("expert_count"), model.number("expert_feed_forward_length")
    yield from attention(model, index)
    yield vector("post_attention_norm.weight", wide)
    yield vector("attn_output.bias", wide)
    yield vector("attn_sinks.weight", model.number("attention.head_count"))
    yield from experts(model, deep)
    yield vector("ffn_gate_inp.bias", count)
    yield Tensor("ffn_gate_exps.bias", (deep, count), plain=True)
    yield Tensor("ffn_up_exps.bias", (deep, count), plain=True)
    yield Tensor("ffn_down_exps.bias", (wide, count), plain=True)


def deepseek2(model: ShapedModel, index: int) -> Iterator[Tensor]:
    wide, heads, rank = (
        model.wide,
        model.number("attention.head_count"),
        model.number("attention.kv_lora_rank"),
    )
    rope = model.number("rope.dimension_count")
    key, value = model.number("attention.key_length_mla"), model.number("attention.value_length_mla")
    yield vector("attn_norm.weight", wide)
    yield vector("attn_kv_a_norm.weight", rank)
    yield matrix("attn_q.weight", wide, heads * key)
    yield matrix("attn_kv_a_mqa.weight", wide, rank + rope)
    yield matrix("attn_k_b.weight", key - rope, rank, heads)
    yield matrix("attn_v_b.weight", rank, value, heads)
    yield matrix("attn_output.weight", heads * value, wide)
    yield vector("ffn_norm.weight", wide)
    if index < model.number("leading_dense_block_count"):
        yield from dense(model)
    else:
        deep = model.number("expert_feed_forward_length")
        yield from experts(model, deep, deep * model.number("expert_shared_count"))


def glm4moe(model: ShapedModel, index: int) -> Iterator[Tensor]:
    yield from attention(model, index)
    yield vector("post_attention_norm.weight", model.wide)
    if index < model.number("leading_dense_block_count"):
        yield from dense(model)
    else:
        deep = model.number("expert_feed_forward_length")
        yield from experts(model, deep, deep * model.number("expert_shared_count"))
        yield vector("exp_probs_b.bias", model.number("expert_count"))


def mamba(model: ShapedModel) -> Iterator[Tensor]:
    inner, state = model.number("ssm.inner_size"), model.number("ssm.state_size")
    groups, heads = model.number("ssm.group_count"), model.number("ssm.time_step_rank")
    channels = inner + 2 * groups * state
    yield matrix("ssm_in.weight", model.wide, inner + channels + heads)
    yield Tensor("ssm_conv1d.weight", (model.number("ssm.conv_kernel"), channels), plain=True)
    yield vector("ssm_conv1d.bias", channels)
    yield vector("ssm_dt.bias", heads)
    yield Tensor("ssm_a", (1, heads), plain=True)
    yield Tensor("ssm_d", (1, heads), plain=True)
    yield Tensor("ssm_norm.weight", (inner // groups, groups), plain=True)
    yield matrix("ssm_out.weight", inner, model.wide)


def falcon_h1(model: ShapedModel, index: int) -> Iterator[Tensor]:
    yield from mamba(model)
    yield from attention(model, index)
    yield vector("ffn_norm", model.wide)
    yield from dense(model)


def granite_hybrid(model: ShapedModel, index: int) -> Iterator[Tensor]:
    if model.number("attention.head_count_kv", index):
        yield from attention(model, index)
    else:
        yield vector("attn_norm.weight", model.wide)
        yield from mamba(model)
    yield vector("ffn_norm.weight", model.wide)
    yield from experts(
        model, model.number("feed_forward_length"), model.number("expert_shared_feed_forward_length")
    )


def nemotron_h(model: ShapedModel, index: int) -> Iterator[Tensor]:
    if model.number("attention.head_count_kv", index):
        yield from attention(model, index)
        return
    yield vector("attn_norm.weight", model.wide)
    yield from dense(model, index) if model.number("feed_forward_length", index) else mamba(model)


def mamba2(model: ShapedModel, _: int) -> Iterator[Tensor]:
    yield vector("attn_norm.weight", model.wide)
    yield from mamba(model)


def lfm2(model: ShapedModel, index: int) -> Iterator[Tensor]:
    wide = model.wide
    if model.number("attention.head_count_kv", index):
        yield from attention(model, index)
    else:
        yield vector("attn_norm.weight", wide)
        yield Tensor("shortconv.conv.weight", (model.number("shortconv.l_cache"), wide), plain=True)
        yield matrix("shortconv.in_proj.weight", wide, 3 * wide)
        yield matrix("shortconv.out_proj.weight", wide, wide)
    yield vector("ffn_norm.weight", wide)
    yield from dense(model)


def gemma3n(model: ShapedModel, index: int) -> Iterator[Tensor]:
    wide, small = model.wide, model.number("embedding_length_per_layer_input")
    yield from post_normed(model, index)
    yield matrix("inp_gate.weight", wide, small)
    yield matrix("proj.weight", small, wide)
    yield vector("post_norm.weight", wide)
    yield Tensor("altup_correct_coef.weight", (4, 4), plain=True)
    yield vector("altup_correct_scale.weight", wide)
    yield Tensor("altup_predict_coef.weight", (4, 16), plain=True)
    yield Tensor("altup_router.weight", (wide, 4), plain=True)
    yield vector("altup_router_norm.weight", wide)
    yield matrix("laurel_l.weight", wide, 64)
    yield matrix("laurel_r.weight", 64, wide)
    yield vector("laurel_post_norm.weight", wide)


def mixtral(model: ShapedModel, index: int) -> Iterator[Tensor]:
    yield from attention(model, index)
    yield vector("ffn_norm.weight", model.wide)
    yield from experts(model, model.number("feed_forward_length"))


def cohere2(model: ShapedModel, index: int) -> Iterator[Tensor]:
    yield from attention(model, index)
    yield from dense(model)


def qwen3next(model: ShapedModel, index: int) -> Iterator[Tensor]:
    wide, head, heads_kv = model.wide, model.head, model.number("attention.head_count_kv")
    yield vector("attn_norm.weight", wide)
    yield vector("post_attention_norm.weight", wide)
    if (index + 1) % 4 == 0:
        queries = model.number("attention.head_count") * head
        yield matrix("attn_q.weight", wide, 2 * queries)  # query and gate
        yield matrix("attn_k.weight", wide, heads_kv * head)
        yield matrix("attn_v.weight", wide, heads_kv * head)
        yield matrix("attn_output.weight", queries, wide)
        yield vector("attn_q_norm.weight", head)
        yield vector("attn_k_norm.weight", head)
    else:
        inner, rank = model.number("ssm.inner_size"), model.number("ssm.time_step_rank")
        state = model.number("ssm.state_size")
        channels = inner + 2 * model.number("ssm.group_count") * state
        yield matrix("attn_qkv.weight", wide, channels)
        yield matrix("attn_gate.weight", wide, inner)
        yield Tensor("ssm_conv1d.weight", (model.number("ssm.conv_kernel"), channels), plain=True)
        yield vector("ssm_dt.bias", rank)
        yield vector("ssm_a", rank)
        yield matrix("ssm_ba.weight", wide, 2 * rank)
        yield vector("ssm_norm.weight", state)
        yield matrix("ssm_out.weight", inner, wide)
    yield vector("ffn_gate_inp_shexp.weight", wide)
    yield from experts(
        model, model.number("expert_feed_forward_length"), model.number("expert_shared_feed_forward_length")
    )


def gemma4(model: ShapedModel, index: int) -> Iterator[Tensor]:
    wide, small = model.wide, model.number("embedding_length_per_layer_input")
    windowed = model.number("attention.sliding_window_pattern", index)
    head = model.number("attention.key_length_swa") if windowed else model.head
    count, kv = model.number("attention.head_count"), model.number("attention.head_count_kv")
    yield vector("attn_norm.weight", wide)
    yield matrix("attn_q.weight", wide, count * head)
    if index < model.number("block_count") - model.number("attention.shared_kv_layers"):
        yield matrix("attn_k.weight", wide, kv * head)
        yield matrix("attn_v.weight", wide, kv * head)
        yield vector("attn_k_norm.weight", head)
    yield matrix("attn_output.weight", count * head, wide)
    yield vector("attn_q_norm.weight", head)
    yield vector("post_attention_norm.weight", wide)
    yield vector("ffn_norm.weight", wide)
    yield from dense(model, index)
    yield vector("post_ffw_norm.weight", wide)
    yield matrix("inp_gate.weight", wide, small)
    yield matrix("proj.weight", small, wide)
    yield vector("post_norm.weight", wide)


def shape(blocks: int, wide: int, deep: Value, context: int, vocabulary: int) -> dict[str, Value]:
    return {
        "block_count": blocks,
        "embedding_length": wide,
        "feed_forward_length": deep,
        "context_length": context,
        "vocab_size": vocabulary,
    }


def heads(count: Value, kv: Value, length: int) -> dict[str, Value]:
    return {
        "attention.head_count": count,
        "attention.head_count_kv": kv,
        "attention.key_length": length,
        "attention.value_length": length,
        "rope.dimension_count": length,
    }


def moe(count: int, used: int, deep: int) -> dict[str, Value]:
    return {"expert_count": count, "expert_used_count": used, "expert_feed_forward_length": deep}


def ssm(kernel: int, state: int, groups: int, rank: int, inner: int) -> dict[str, Value]:
    return {
        "ssm.conv_kernel": kernel,
        "ssm.state_size": state,
        "ssm.group_count": groups,
        "ssm.time_step_rank": rank,
        "ssm.inner_size": inner,
    }


def at(count: int, places: tuple[int, ...], value: int) -> list[int]:
    return [value if index in places else 0 for index in range(count)]


NEMOTRON = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-"
"""Layers of Nemotron Nano 9B v2: mamba, network (-), attention (*). Source: its config.json."""

MODELS = (
    ShapedModel(
        "SmolLM2 135M",
        "llama",
        shape(30, 576, 1536, 8192, 49152) | heads(9, 3, 64),
        plain,
        "HuggingFaceTB/SmolLM2-135M-Instruct config.json; the header of its GGUF",
        tied=True,
    ),
    ShapedModel(
        "Llama 3.1 8B",
        "llama",
        shape(32, 4096, 14336, 131072, 128256) | heads(32, 8, 128),
        plain,
        "meta-llama/Llama-3.1-8B config.json",
        more=(vector("rope_freqs.weight", 64),),
    ),
    ShapedModel(
        "Qwen2.5 7B",
        "qwen2",
        shape(28, 3584, 18944, 32768, 152064) | heads(28, 4, 128),
        plain,
        "Qwen/Qwen2.5-7B-Instruct config.json",
        flags=frozenset({"qkv_bias"}),
    ),
    ShapedModel(
        "Qwen3 8B",
        "qwen3",
        shape(36, 4096, 12288, 40960, 151936) | heads(32, 8, 128),
        plain,
        "Qwen/Qwen3-8B config.json",
        flags=frozenset({"qk_norm"}),
    ),
    ShapedModel(
        "Qwen3 30B A3B",
        "qwen3moe",
        shape(48, 2048, 6144, 262144, 151936) | heads(32, 4, 128) | moe(128, 8, 768),
        all_experts,
        "Qwen/Qwen3-30B-A3B-Instruct-2507 config.json",
        flags=frozenset({"qk_norm"}),
    ),
    ShapedModel(
        "Ministral 3 8B",
        "mistral3",
        shape(34, 4096, 14336, 262144, 131072) | heads(32, 8, 128),
        plain,
        "mistralai/Ministral-3-8B-Instruct-2512 config.json",
    ),
    ShapedModel(
        "Phi-4 14B",
        "phi3",
        shape(40, 5120, 17920, 16384, 100352) | heads(40, 10, 128) | {"attention.sliding_window": 0},
        plain,
        "microsoft/phi-4 config.json",
        flags=frozenset({"fused_qkv", "fused_up"}),
    ),
    ShapedModel(
        "GLM-4 9B 0414",
        "glm4",
        shape(40, 4096, 13696, 32768, 151552) | heads(32, 2, 128),
        post_normed,
        "zai-org/GLM-4-9B-0414 config.json",
        flags=frozenset({"qkv_bias", "fused_up"}),
    ),
    ShapedModel(
        "Gemma 2 9B",
        "gemma2",
        shape(42, 3584, 14336, 8192, 256000) | heads(16, 8, 256) | {"attention.sliding_window": 4096},
        post_normed,
        "google/gemma-2-9b-it config.json",
        tied=True,
    ),
    ShapedModel(
        "Gemma 3 270M",
        "gemma3",
        shape(18, 640, 2048, 32768, 262144) | heads(4, 1, 256) | {"attention.sliding_window": 512},
        post_normed,
        "google/gemma-3-270m config.json; the header of its GGUF",
        tied=True,
        flags=frozenset({"qk_norm"}),
    ),
    ShapedModel(
        "Gemma 3 12B",
        "gemma3",
        shape(48, 3840, 15360, 131072, 262208) | heads(16, 8, 256) | {"attention.sliding_window": 1024},
        post_normed,
        "google/gemma-3-12b-it config.json",
        tied=True,
        flags=frozenset({"qk_norm"}),
    ),
    ShapedModel(
        "gpt-oss 20B",
        "gpt-oss",
        shape(24, 2880, 2880, 131072, 201088)
        | heads(64, 8, 64)
        | moe(32, 4, 2880)
        | {"attention.sliding_window": 128},
        gpt_oss,
        "openai/gpt-oss-20b config.json",
        flags=frozenset({"qkv_bias"}),
    ),
    ShapedModel(
        "DeepSeek V2 Lite",
        "deepseek2",
        shape(27, 2048, 10944, 163840, 102400)
        | heads(16, 1, 576)
        | moe(64, 6, 1408)
        | {
            "attention.value_length": 512,
            "attention.kv_lora_rank": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
            "rope.dimension_count": 64,
            "leading_dense_block_count": 1,
            "expert_shared_count": 2,
            "expert_weights_scale": 1.0,
        },
        deepseek2,
        "deepseek-ai/DeepSeek-V2-Lite-Chat config.json",
    ),
    ShapedModel(
        "GLM-4.5 Air",
        "glm4moe",
        shape(46, 4096, 10944, 131072, 151552)
        | heads(96, 8, 128)
        | moe(128, 8, 1408)
        | {"leading_dense_block_count": 1, "expert_shared_count": 1, "rope.dimension_count": 64},
        glm4moe,
        "zai-org/GLM-4.5-Air config.json; its block for multi-token prediction left out",
        flags=frozenset({"qkv_bias"}),
    ),
    ShapedModel(
        "Llama 4 Scout",
        "llama4",
        shape(48, 5120, 16384, 10485760, 202048)
        | heads(40, 8, 128)
        | moe(16, 1, 8192)
        | {"interleave_moe_layer_step": 1, "expert_shared_feed_forward_length": 8192},
        all_experts,
        "meta-llama/Llama-4-Scout-17B-16E-Instruct config.json",
    ),
    ShapedModel(
        "Falcon H1 7B",
        "falcon-h1",
        shape(44, 3072, 12288, 262144, 130048) | heads(12, 2, 128) | ssm(4, 256, 1, 24, 3072),
        falcon_h1,
        "tiiuae/Falcon-H1-7B-Instruct config.json",
    ),
    ShapedModel(
        "Granite 4.0 H Tiny",
        "granitehybrid",
        shape(40, 1536, 512, 131072, 100352)
        | heads(12, at(40, (5, 15, 25, 35), 4), 128)
        | moe(64, 6, 512)
        | ssm(4, 128, 1, 48, 3072)
        | {"expert_shared_feed_forward_length": 1024},
        granite_hybrid,
        "ibm-granite/granite-4.0-h-tiny config.json",
        tied=True,
    ),
    ShapedModel(
        "Nemotron Nano 9B v2",
        "nemotron_h",
        shape(56, 4480, [15680 if kind == "-" else 0 for kind in NEMOTRON], 131072, 131072)
        | heads(40, [8 if kind == "*" else 0 for kind in NEMOTRON], 128)
        | ssm(4, 128, 8, 128, 10240)
        | {"attention.layer_norm_epsilon": 1e-5},
        nemotron_h,
        "nvidia/NVIDIA-Nemotron-Nano-9B-v2 config.json",
        flags=frozenset({"no_gate"}),
    ),
    ShapedModel(
        "Mamba 2 2.7B",
        "mamba2",
        shape(64, 2560, 0, 1048576, 50288) | ssm(4, 128, 1, 80, 5120),
        mamba2,
        "state-spaces/mamba2-2.7b config.json",
        tied=True,
    ),
    ShapedModel(
        "LFM2 1.2B",
        "lfm2",
        shape(16, 2048, 8192, 128000, 65536)
        | heads(32, at(16, (2, 5, 8, 10, 12, 14), 8), 64)
        | {"shortconv.l_cache": 3},
        lfm2,
        "LiquidAI/LFM2-1.2B config.json",
        tied=True,
        output_norm="token_embd_norm.weight",
        flags=frozenset({"qk_norm"}),
    ),
    ShapedModel(
        "Gemma 3n E4B",
        "gemma3n",
        shape(35, 2048, 16384, 32768, 262400)
        | heads(8, 2, 256)
        | {"attention.sliding_window": 512, "embedding_length_per_layer_input": 256},
        gemma3n,
        "google/gemma-3n-E4B-it config.json",
        tied=True,
        more=(
            matrix("altup_proj.weight", 2048, 2048, 3),
            matrix("altup_unembd_proj.weight", 2048, 2048, 3),
            matrix("per_layer_token_embd.weight", 256 * 35, 262400),
            matrix("per_layer_model_proj.weight", 2048, 256 * 35),
            vector("per_layer_proj_norm.weight", 256),
        ),
        flags=frozenset({"qk_norm"}),
    ),
    ShapedModel(
        "Gemma 4 made up",
        "gemma4",
        shape(35, 2560, 10240, 131072, 262144)
        | heads(8, 2, 512)
        | {
            "attention.key_length_swa": 256,
            "attention.value_length_swa": 256,
            "rope.dimension_count_swa": 256,
            "attention.sliding_window": 512,
            "attention.sliding_window_pattern": [True, True, True, True, False] * 7,
            "attention.shared_kv_layers": 15,
            "embedding_length_per_layer_input": 256,
        },
        gemma4,
        "no model's: numbers that show each key that src/models/gemma4.cpp reads",
        tied=True,
        more=(
            matrix("per_layer_token_embd.weight", 256 * 35, 262144),
            matrix("per_layer_model_proj.weight", 2560, 256 * 35),
            vector("per_layer_proj_norm.weight", 256),
            vector("rope_freqs.weight", 256),
        ),
    ),
    ShapedModel(
        "Mixtral 8x7B",
        "llama",
        shape(32, 4096, 14336, 32768, 32000)
        | heads(32, 8, 128)
        | {"expert_count": 8, "expert_used_count": 2},
        mixtral,
        "mistralai/Mixtral-8x7B-Instruct-v0.1 config.json",
    ),
    ShapedModel(
        "Command R7B",
        "cohere2",
        shape(32, 4096, 14336, 8192, 256000)
        | heads(32, 8, 128)
        | {
            "attention.sliding_window": 4096,
            "attention.layer_norm_epsilon": 1e-5,
            "logit_scale": 0.25,
        },
        cohere2,
        "CohereLabs/c4ai-command-r7b-12-2024 config.json",
        tied=True,
    ),
    ShapedModel(
        "Qwen3 Next 80B A3B",
        "qwen3next",
        shape(48, 2048, 5120, 262144, 151936)
        | heads(16, 2, 256)
        | moe(512, 10, 512)
        | ssm(4, 128, 16, 32, 4096)
        | {"expert_shared_feed_forward_length": 512, "rope.dimension_count": 64},
        qwen3next,
        "Qwen/Qwen3-Next-80B-A3B-Instruct config.json",
    ),
)
"""Numbers of the models' own ``config.json`` files.

They were not compared with a second publication: what these tests need is that the engine and the formulas
get the same numbers, and that the engine loads a model of them.
"""


def type_of(name: str, shape: tuple[int, ...], quant: str) -> str:
    """Return the type a quant gives a tensor: the one it is named after, where its rows are whole blocks.

    ``Q4_K_M`` keeps embedding, output and the down projections at 6 bits, roughly as llama-quantize does.
    """
    wanted = quant
    if quant == "Q4_K_M":
        better = ("token_embd", "output.", "ffn_down", "attn_v.", "per_layer_token_embd")
        wanted = "Q6_K" if any(part in name for part in better) else "Q4_K"
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[wanted]][0]
    return wanted if shape[0] % int(block) == 0 else "Q8_0"


def write_family(path: Path, model: ShapedModel, quant: str) -> int:
    """Write the sparse file of one model at one quant; return its size."""
    writer = gguf.GGUFWriter(path, model.family)
    writer.add_string("general.name", model.title)
    writer.add_float32(f"{model.family}.attention.layer_norm_rms_epsilon", 1e-6)
    for key, value in model.keys.items():
        name = f"{model.family}.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
    writer.add_string("tokenizer.ggml.model", "none")
    typed = ((one, "F32" if one.plain else type_of(one.name, one.shape, quant)) for one in model.tensors())
    return write_hole(path, writer, typed)


def describe(path: Path) -> tuple[Profile, Quant]:
    """Return the profile and the quant that describe a file, from nothing but its header."""
    with path.open("rb") as file:
        header = read_header(file.read)
    sizes = sizes_of((header,))
    quant = Quant(
        name="whole",
        files=(File(name=path.name, bytes=path.stat().st_size),),
        token_embd_bytes=sizes.token_embd_bytes,
        output_bytes=sizes.output_bytes,
        other_input_bytes=sizes.other_input_bytes,
        layer_bytes=sizes.layer_bytes,
        bits_per_weight=4,
        source="the file's own header",
    )
    demo = profile("demo")
    return demo.model_copy(update={"architecture": architecture_of(header), "quants": (quant,)}), quant
