"""The formulas, against figures that llama.cpp b11434 printed in dry runs with RPC workers as devices.

Captured: llama-server b11434, ``-np 1 -lv 4``, CPU and RPC, files of each model's shape, 2026-11.
"""

import pytest

from qwenctl.hardware.facts import Backend
from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import layers
from qwenctl.plan.memory import (
    MIB,
    Load,
    checkpoint_bytes,
    compute_bytes,
    device_parts,
    device_weights_bytes,
    draft_bytes,
    host_part,
    kv_bytes,
    recurrent_bytes,
    shares,
    vision_bytes,
)
from tests.fakes.machines import profile

BIG = profile("qwen3.6-27b")
MODEL = BIG.architecture
RPC: tuple[Backend, ...] = ("rpc", "rpc", "rpc")
Q4 = next(quant for quant in BIG.quants if quant.name == "Q4_K_M")


@pytest.mark.parametrize(
    ("kv_type", "bytes_per_token"),
    [
        ("f16", 65536),
        ("bf16", 65536),
        ("q8_0", 34816),
        ("q5_1", 24576),
        ("q5_0", 22528),
        ("q4_1", 20480),
        ("q4_0", 18432),
        ("iq4_nl", 18432),
        ("f32", 131072),
    ],
)
def test_keys_and_values_of_the_27b_by_type(kv_type: str, bytes_per_token: int) -> None:
    assert kv_bytes(MODEL, Load(65536, kv_type)) == 65536 * bytes_per_token
    assert kv_bytes(MODEL, Load(100, kv_type)) == 256 * bytes_per_token, "padded to 256 tokens"


def test_recurrent_state_does_not_depend_on_the_context() -> None:
    assert recurrent_bytes(MODEL, 1) == 156_893_184
    assert recurrent_bytes(MODEL, 4) == 4 * 156_893_184
    assert recurrent_bytes(MODEL, 1, draft_tokens=3) == 4 * 156_893_184
    assert recurrent_bytes(profile("qwen3.5-9b").architecture, 1) == pytest.approx(50.25 * MIB)


def test_the_input_embedding_stays_on_the_host() -> None:
    assert device_weights_bytes(MODEL, Q4) == 16_091_088_896, "facts: byte-exact for the published file"
    tied = profile("qwen3.5-4b")
    quant = tied.quants[0]
    assert device_weights_bytes(tied.architecture, quant) == quant.bytes - tied.architecture.header_bytes


@pytest.mark.parametrize(
    ("name", "tokens", "device_mib", "host_mib", "cpu_mib"),
    [
        ("qwen3.6-27b", 8192, 150, 48, 160),
        ("qwen3.6-27b", 65536, 206, 104, 216),
        ("qwen3.6-27b", 262144, 398, 296, None),
        ("qwen3.5-9b", 8192, 112, 40, 120),
        ("qwen3.5-9b", 65536, 168, 96, 176),
        ("qwen3.5-4b", 65536, 138, 84, 143),
        ("qwen3.5-2b", 262144, 308, 272, None),
        ("qwen3.6-35b-a3b", 8192, 80, 24, None),
        ("qwen3.6-35b-a3b", 65536, 136, 80, None),
    ],
)
def test_compute_buffers_are_what_the_engine_reserved(
    name: str, tokens: int, device_mib: int, host_mib: int, cpu_mib: int | None
) -> None:
    one = profile(name)
    load = Load(tokens, "f16")
    assert compute_bytes(one.architecture, load, "rpc") // MIB == device_mib
    logits = 4 * one.architecture.vocab_size
    assert (host_part(one, one.quants[0], load, RPC[:1]).compute - logits) // MIB == host_mib
    if cpu_mib is not None:
        assert compute_bytes(one.architecture, load, "cpu") // MIB == cpu_mib


@pytest.mark.parametrize(
    ("name", "count", "tokens", "context_mib", "compute_mib", "host_mib"),
    [
        ("qwen3.6-27b", 2, 8192, (333, 327), (284, 234), 132),
        ("qwen3.6-27b", 2, 65536, (2125, 2119), (508, 458), 356),
        ("qwen3.6-27b", 3, 65536, (1332, 1585, 1326), (508, 458, 458), 356),
        ("qwen3.5-9b", 2, 65536, (1051, 1047), (448, 408), 336),
        ("qwen3.5-9b", 3, 8192, (82, 112, 110), (224, 184, 184), 112),
        ("qwen3.6-35b-a3b", 2, 65536, (673, 669), (376, 356), 296),
    ],
)
def test_layers_split_over_devices_as_the_engine_splits_them(
    name: str,
    count: int,
    tokens: int,
    context_mib: tuple[int, ...],
    compute_mib: tuple[int, ...],
    host_mib: int,
) -> None:
    one = profile(name)
    load = Load(tokens, "f16")
    parts = device_parts(one, one.quants[0], load, RPC[:count], (1,) * count)
    assert tuple((part.kv + part.recurrent) // MIB for part in parts) == context_mib
    assert tuple(part.compute // MIB for part in parts) == compute_mib
    logits = 4 * one.architecture.vocab_size
    assert (host_part(one, one.quants[0], load, RPC[:count]).compute - logits) // MIB == host_mib


def test_every_layer_goes_to_exactly_one_device() -> None:
    for capacities in ((1,), (1, 1), (24, 8), (8, 24), (80, 80, 80), (1, 100), (100, 1)):
        split = shares(MODEL, capacities)
        held = [layer for share in split for layer in share.of(MODEL)]
        assert held == list(layers(MODEL))
        assert sum(layer.attention == "full" for layer in held) == 16


def test_the_weights_of_all_devices_are_the_weights() -> None:
    parts = device_parts(BIG, Q4, Load(65536, "f16"), ("cuda",) * 3, (24, 24, 16))
    total = device_weights_bytes(MODEL, Q4)
    assert 0 <= total - sum(part.weights for part in parts) < 64


@pytest.mark.parametrize(
    ("backend", "kv_type", "tokens", "mib"),
    [
        # facts, section 3.4: emulated for b10605; b11434 keeps 20 MiB more of the residual stream.
        # ROCm keeps one copy more; Metal one copy of the queries less: public logs, tests/plan/field.
        ("cuda", "f16", 65536, 186 + 20),
        ("vulkan", "f16", 65536, 196 + 20),
        ("cuda", "q8_0", 131072, 720 + 20),
        ("cuda", "q8_0", 262144, 1360 + 20),
        ("rocm", "q8_0", 131072, 720 + 30),
        ("metal", "f16", 65536, 412 + 9),
        ("metal", "f16", 262144, 1372 + 9),
        ("metal", "q8_0", 65536, 412 + 9),
    ],
)
def test_attention_scratch_by_backend(backend: Backend, kv_type: str, tokens: int, mib: int) -> None:
    assert compute_bytes(MODEL, Load(tokens, kv_type), backend) / MIB == pytest.approx(mib, abs=1)


@pytest.mark.parametrize("kv_type", ["bf16", "f32", "q8_0", "q4_0"])
def test_cuda_keeps_an_f16_copy_of_every_kv_type_but_f16(kv_type: str) -> None:
    """Source: ggml-cuda/fattn.cu; a public log of two cards with bf16 keys: 6,360.13 MiB each, not 4,600."""
    plain = compute_bytes(MODEL, Load(262144, "f16"), "cuda")
    copied = compute_bytes(MODEL, Load(262144, kv_type), "cuda")
    assert (copied - plain) / MIB == pytest.approx(982, abs=1)
    two = Load(524288, "bf16", ubatch=1024)
    for position in (0, 1):
        mib = compute_bytes(MODEL, two, "cuda", position, 2) / MIB
        assert mib == pytest.approx(6360.13, rel=0.011), "and b11434 keeps 40 MiB more of the residual stream"


@pytest.mark.parametrize("backend", ["cuda", "rocm"])
def test_every_card_of_several_computes_with_as_much(backend: Backend) -> None:
    """A public log of two MI355X, 262,144 tokens, batches of 2,048: 4,744.25 MiB each; b11434: 80 more."""
    load = Load(262144, "f16", ubatch=2048)
    sizes = [compute_bytes(MODEL, load, backend, position, 2) / MIB for position in (0, 1)]
    assert sizes == [pytest.approx(4744.25 + 80, abs=0.5)] * 2


def test_drafts_have_f16_keys_and_need_no_copy_of_them_on_cuda() -> None:
    """Public logs: 613 MiB for 27B on two 5060 Ti with q8_0, where 1,186 were planned."""
    load = Load(262144, "q8_0", draft_tokens=3)
    for backend in ("cuda", "rocm", "vulkan"):
        plain = draft_bytes(BIG, Q4, Load(262144, "f16", draft_tokens=3), backend)
        assert draft_bytes(BIG, Q4, load, backend) == plain
    assert draft_bytes(BIG, Q4, load, "metal") > draft_bytes(BIG, Q4, load, "cuda")


def test_metal_maps_the_embedding_with_the_weights() -> None:
    """Three Macs' logs: 16,027.69 MiB of 27B Q4_K_M, 21,098.65 of 35B UD-Q4_K_M, in one buffer."""
    load = Load(32768, "f16")
    moe = profile("qwen3.6-35b-a3b")
    for one, name, mib in ((BIG, "Q4_K_M", 16027.69), (moe, "UD-Q4_K_M", 21098.65)):
        quant = one.quant(name)
        assert quant is not None
        (part,) = device_parts(one, quant, load, ("metal",), (1,))
        assert part.weights / MIB == pytest.approx(mib, abs=0.01)
        assert part.mapped == quant.token_embd_bytes
        assert host_part(one, quant, load, ("metal",)).weights == 0, "the same pages"
        (other,) = device_parts(one, quant, load, ("vulkan",), (1,))
        assert other.weights == part.weights - part.mapped
        assert other.mapped == 0


def test_the_embedding_of_the_mixture_is_of_8_bits() -> None:
    """Two logs of UD-Q4_K_M: 515.31 MiB on the host, 20,583.34 on the device."""
    moe = profile("qwen3.6-35b-a3b")
    quant = moe.quant("UD-Q4_K_M")
    assert quant is not None
    load = Load(34048, "f16")
    assert host_part(moe, quant, load, ("vulkan",)).weights / MIB == pytest.approx(515.31, abs=0.01)
    (part,) = device_parts(moe, quant, load, ("vulkan",), (1,))
    assert part.weights / MIB == pytest.approx(20583.34, abs=0.01)


def test_vulkan_needs_one_more_copy_of_the_residual_stream() -> None:
    """Public logs of the 27B and 9B: 10 MiB with batches of 512, 40 and 32 with 2,048."""
    for one, batch, mib in ((BIG, 512, 10), (BIG, 2048, 40), (profile("qwen3.5-9b"), 2048, 32)):
        load = Load(32768, "f16", ubatch=batch)
        extra = compute_bytes(one.architecture, load, "vulkan") - compute_bytes(
            one.architecture, load, "rocm"
        )
        assert extra == mib * MIB


def test_a_model_without_attention_has_no_cache_whatever_its_type() -> None:
    mamba = Architecture(
        name="mamba2",
        block_count=64,
        embedding_length=2560,
        ssm_conv_kernel=4,
        ssm_state_size=128,
        ssm_group_count=1,
        ssm_time_step_rank=80,
        ssm_inner_size=5120,
        vocab_size=50288,
        context_length=1 << 20,
        source="state-spaces/mamba2-2.7b config.json",
    )
    for kv_type in ("f16", "q8_0"):
        load = Load(8192, kv_type)
        assert kv_bytes(mamba, load) == 0
        assert compute_bytes(mamba, load, "cpu") / MIB == pytest.approx(79.23, abs=0.1)
    assert recurrent_bytes(mamba, 4) == 4 * recurrent_bytes(mamba, 1)


def windowed(**more: object) -> Architecture:
    """Return Gemma 3 270M's numbers."""
    numbers: dict[str, object] = {
        "name": "gemma3",
        "block_count": 18,
        "embedding_length": 640,
        "feed_forward_length": 2048,
        "head_count": 4,
        "head_count_kv": 1,
        "key_length": 256,
        "value_length": 256,
        "vocab_size": 262144,
        "context_length": 32768,
        "sliding_window": 512,
        "tied_embeddings": True,
        "source": "google/gemma-3-270m config.json",
    }
    return Architecture.model_validate(numbers | more)


@pytest.mark.parametrize(
    ("load", "mib"),
    [
        # captured: llama-server b11434, "KV buffer size", both caches
        (Load(8192, "f16"), 39),
        (Load(65536, "f16"), 207),
        (Load(65536, "q8_0"), 109.97),
        (Load(16384, "f16", 4), 252),
        (Load(16384, "f16", 4, unified=True), 229.5),
    ],
)
def test_a_window_keeps_itself_and_one_batch_for_each_slot(load: Load, mib: float) -> None:
    assert kv_bytes(windowed(), load) / MIB == pytest.approx(mib, abs=0.01)


def test_a_checkpoint_keeps_the_windows_of_one_slot() -> None:
    one = Load(65536, "f16", 4)
    assert checkpoint_bytes(windowed(), one) / MIB == 15
    assert checkpoint_bytes(windowed(sliding_window=0), one) == 0


def test_layers_that_share_a_cache_have_none_of_their_own() -> None:
    own = windowed(name="gemma4", sliding_window_layers=(True, False) * 9, shared_kv_layers=8)
    alone = own.model_copy(update={"block_count": 10, "shared_kv_layers": 0})
    assert kv_bytes(own, Load(8192, "f16")) == kv_bytes(alone, Load(8192, "f16"))


def test_weights_go_where_their_layers_go_if_their_sizes_are_known() -> None:
    """Unused blocks are not loaded, but count when layers are shared out."""
    model = MODEL.model_copy(update={"block_count": 65, "nextn_predict_layers": 1})
    sizes = (*(100 * MIB + layer for layer in range(64)), 276 * MIB)
    total = sum(sizes) + Q4.token_embd_bytes + (Q4.output_bytes or 0) + 5 * MIB + model.header_bytes
    quant = Q4.model_copy(
        update={"layer_bytes": sizes, "files": (Q4.files[0].model_copy(update={"bytes": total}),)}
    )
    one = BIG.model_copy(update={"architecture": model})
    first, second = device_parts(one, quant, Load(8192, "f16"), ("cuda", "cuda"), (1, 1))
    assert first.weights == sum(sizes[:33])
    assert second.weights == sum(sizes[33:64]) + (Q4.output_bytes or 0) + 5 * MIB
    assert host_part(one, quant, Load(8192, "f16"), ()).weights == total - model.header_bytes - sizes[64]


def test_slots_have_their_own_context_and_state() -> None:
    """Captured: ``-c 65536 -np 4`` is 4 slots of 16,384 tokens: compute 158 MiB, host 56."""
    load = Load(16384, "f16", parallel=4)
    part = device_parts(BIG, Q4, load, ("rpc",), (1,))[0]
    assert part.compute // MIB == 158
    assert part.kv == kv_bytes(MODEL, Load(65536, "f16"))
    assert part.recurrent == 4 * 156_893_184
    assert (host_part(BIG, Q4, load, RPC[:1]).compute - 4 * 4 * MODEL.vocab_size) // MIB == 56


def test_drafts_cost_weights_cache_and_states() -> None:
    """Facts, section 3.6: 1.09 GiB on CUDA at 65,536 tokens with three drafts, states included."""
    plain, drafting = Load(65536, "f16"), Load(65536, "f16", draft_tokens=3)
    states = recurrent_bytes(MODEL, 1, draft_tokens=3) - recurrent_bytes(MODEL, 1)
    extra = draft_bytes(BIG, Q4, drafting, "cuda") + states
    assert extra / 2**30 == pytest.approx(1.09, rel=0.02)
    assert draft_bytes(BIG, Q4, drafting, "metal") + states > extra
    assert draft_bytes(BIG, Q4, plain, "cuda") == 0
    assert checkpoint_bytes(MODEL, plain) == 156_893_184
    assert checkpoint_bytes(MODEL, drafting) / MIB == pytest.approx(407, rel=0.02)


def test_the_vision_encoder_takes_the_memory_measured_at_run_time() -> None:
    assert vision_bytes(BIG, Load(8192, "f16", vision=True)) == 1158 * MIB
    assert vision_bytes(BIG, Load(8192, "f16")) == 0
    assert vision_bytes(profile("demo"), Load(8192, "f16", vision=True)) == 0


def test_a_cpu_holds_all_weights_also_when_they_are_repacked() -> None:
    """Captured: 27B Q4_K_M on a CPU at 65,536 tokens, no repacking: all on the host."""
    load = Load(65536, "f16")
    part = host_part(BIG, Q4, load, ())
    assert part.weights == Q4.bytes - MODEL.header_bytes
    assert (part.kv + part.recurrent) // MIB == 4245
    assert (part.compute - 4 * MODEL.vocab_size) // MIB == 216
