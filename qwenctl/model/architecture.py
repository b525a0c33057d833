"""The numbers of a model's architecture, from a profile or from a GGUF header. Pure: no I/O."""

from pydantic import BaseModel, ConfigDict, Field

from qwenctl.errors import FetchError
from qwenctl.model.gguf_header import Header


class Table(BaseModel):
    """One table of a profile. Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Architecture(Table):
    """The numbers the memory formulas need, by their GGUF names.

    A number that differs from layer to layer has a plural beside it with one value for each layer; the
    singular is then the largest. ``model.layers`` says what the numbers mean for each layer.
    ``header_bytes`` are those bytes of a file that are no tensors; the vocabulary is nearly all of them.
    In a mixture of experts ``feed_forward_length`` is the shared expert's, unless
    ``expert_shared_feed_forward_length`` names that one; then it is the length of the leading dense layers.
    """

    name: str
    block_count: int = Field(gt=0)
    full_attention_interval: int = Field(1, gt=0)
    embedding_length: int = Field(gt=0)
    feed_forward_length: int = Field(0, ge=0)
    feed_forward_lengths: tuple[int, ...] = ()
    head_count: int = Field(0, ge=0)
    head_counts: tuple[int, ...] = ()
    head_count_kv: int = Field(0, ge=0)
    head_counts_kv: tuple[int, ...] = ()
    key_length: int = Field(0, ge=0)
    value_length: int = Field(0, ge=0)
    ssm_conv_kernel: int = Field(0, ge=0)
    ssm_state_size: int = Field(0, ge=0)
    ssm_group_count: int = Field(0, ge=0)
    ssm_time_step_rank: int = Field(0, ge=0)
    ssm_inner_size: int = Field(0, ge=0)
    vocab_size: int = Field(gt=0)
    context_length: int = Field(gt=0)
    tied_embeddings: bool = False  # the file has no output tensor: the device gets a copy of the embedding
    expert_count: int = Field(0, ge=0)
    expert_used_count: int = Field(0, ge=0)
    expert_feed_forward_length: int = Field(0, ge=0)
    expert_shared_feed_forward_length: int = Field(0, ge=0)
    expert_shared_count: int = Field(0, ge=0)
    leading_dense_block_count: int = Field(0, ge=0)
    interleave_moe_layer_step: int = Field(0, ge=0)
    nextn_predict_layers: int = Field(0, ge=0)  # blocks for multi-token prediction, counted in block_count
    sliding_window: int | None = Field(None, ge=0)  # None: the header does not say
    sliding_window_pattern: int | None = Field(None, ge=0)  # one layer in so many attends fully
    sliding_window_layers: tuple[bool, ...] = ()
    key_length_swa: int = Field(0, ge=0)
    value_length_swa: int = Field(0, ge=0)
    shared_kv_layers: int = Field(0, ge=0)  # the last layers, which read the cache of an earlier one
    kv_lora_rank: int = Field(0, ge=0)
    key_length_mla: int = Field(0, ge=0)
    value_length_mla: int = Field(0, ge=0)
    recurrent_layers: tuple[bool, ...] = ()
    shortconv_l_cache: int = Field(0, ge=0)
    wkv_head_size: int = Field(0, ge=0)
    token_shift_count: int = Field(2, ge=0)
    kda_head_dim: int = Field(0, ge=0)
    embedding_length_per_layer: int = Field(0, ge=0)
    header_bytes: int = Field(0, ge=0)
    unverified: tuple[str, ...] = ()
    source: str


def architecture_of(header: Header) -> Architecture:
    """Return the numbers of a model from the header of its first file.

    Raises:
        FetchError: the header names no architecture, or lacks a number that every model has.
    """
    name = header.architecture
    if name is None:
        raise FetchError("cannot use the file: its header names no architecture")
    keys = _Keys(header, name)
    heads, by_head = keys.by_layer("attention.head_count")
    wide = keys.number("embedding_length")
    heads_kv, by_head_kv = keys.by_layer("attention.head_count_kv")
    if not keys.has("attention.head_count_kv"):
        heads_kv, by_head_kv = heads, by_head
    width = wide // heads if heads else 0
    deep, by_depth = keys.by_layer("feed_forward_length")
    embedding = next((tensor for tensor in header.tensors if tensor.name == "token_embd.weight"), None)
    rows = embedding.dims[1] if embedding is not None and len(embedding.dims) > 1 else None
    shared = keys.number("expert_shared_feed_forward_length", 0)
    experts = keys.number("expert_count", 0)
    return Architecture(
        name=name,
        block_count=keys.number("block_count"),
        full_attention_interval=keys.number("full_attention_interval", INTERVALS.get(name, 1)),
        embedding_length=wide,
        feed_forward_length=deep or (shared if experts else 0),
        feed_forward_lengths=by_depth,
        head_count=heads,
        head_counts=by_head,
        head_count_kv=heads_kv,
        head_counts_kv=by_head_kv,
        key_length=keys.number("attention.key_length", width),
        value_length=keys.number("attention.value_length", width),
        ssm_conv_kernel=keys.number("ssm.conv_kernel", 0),
        ssm_state_size=keys.number("ssm.state_size", 0),
        ssm_group_count=keys.number("ssm.group_count", 0),
        ssm_time_step_rank=keys.number("ssm.time_step_rank", 0),
        ssm_inner_size=keys.number("ssm.inner_size", 0),
        vocab_size=rows if rows is not None else keys.number("vocab_size"),
        context_length=keys.number("context_length"),
        tied_embeddings=all(tensor.name != "output.weight" for tensor in header.tensors),
        expert_count=experts,
        expert_used_count=keys.by_layer("expert_used_count")[0],
        expert_feed_forward_length=keys.by_layer("expert_feed_forward_length")[0],
        expert_shared_feed_forward_length=shared,
        expert_shared_count=keys.number("expert_shared_count", 0),
        leading_dense_block_count=keys.number("leading_dense_block_count", 0),
        interleave_moe_layer_step=keys.number("interleave_moe_layer_step", 0),
        nextn_predict_layers=keys.number("nextn_predict_layers", 0),
        sliding_window=header.number(f"{name}.attention.sliding_window"),
        sliding_window_pattern=header.number(f"{name}.attention.sliding_window_pattern"),
        sliding_window_layers=keys.flags("attention.sliding_window_pattern"),
        key_length_swa=keys.number("attention.key_length_swa", 0),
        value_length_swa=keys.number("attention.value_length_swa", 0),
        shared_kv_layers=keys.number("attention.shared_kv_layers", 0),
        kv_lora_rank=keys.number("attention.kv_lora_rank", 0),
        key_length_mla=keys.number("attention.key_length_mla", 0),
        value_length_mla=keys.number("attention.value_length_mla", 0),
        recurrent_layers=keys.flags("attention.recurrent_layers"),
        shortconv_l_cache=keys.number("shortconv.l_cache", 0),
        wkv_head_size=keys.number("wkv.head_size", 0),
        token_shift_count=keys.number("token_shift_count", 2),
        kda_head_dim=keys.number("kda.head_dim", 0),
        embedding_length_per_layer=keys.number("embedding_length_per_layer_input", 0),
        header_bytes=header.data_offset,
        source="the file's own header",
    )


INTERVALS = {"qwen35": 4, "qwen35moe": 4, "qwen3next": 4}
"""``full_attention_interval`` where the header has none. Source: llama.cpp b11434, src/models."""


class _Keys:
    """The keys of one architecture in a header."""

    def __init__(self, header: Header, name: str) -> None:
        self._header, self._name = header, name

    def has(self, key: str) -> bool:
        """Say whether the header has the key."""
        return f"{self._name}.{key}" in self._header.keys

    def number(self, key: str, default: int | None = None) -> int:
        """Return one integer."""
        value = self._header.number(f"{self._name}.{key}")
        value = default if value is None else value
        if value is None:
            raise FetchError(f"cannot use the file: its header has no {self._name}.{key}")
        if value < 0:
            raise FetchError(f"cannot use the file: {self._name}.{key} is {value}")
        return value

    def by_layer(self, key: str) -> tuple[int, tuple[int, ...]]:
        """Return the largest number, and one for each layer where they differ; 0 if the key is missing."""
        items = self._items(key)
        if items is None:
            return self.number(key, 0), ()
        numbers = tuple(item for item in items if isinstance(item, int) and item >= 0)
        if not numbers or len(numbers) < len(items):
            raise FetchError(f"cannot use the file: {self._name}.{key} is no array of numbers")
        same = len(set(numbers)) == 1
        return max(numbers), () if same else numbers

    def flags(self, key: str) -> tuple[bool, ...]:
        """Return one yes or no for each layer; empty where the header has no array."""
        return tuple(bool(item) for item in self._items(key) or ())

    def _items(self, key: str) -> tuple[object, ...] | None:
        value = self._header.keys.get(f"{self._name}.{key}")
        return value if isinstance(value, tuple) else None
