"""The numbers of a model's architecture, from a profile or from a GGUF header. Pure: no I/O."""

from pydantic import BaseModel, ConfigDict, Field

from qwenctl.errors import FetchError
from qwenctl.model.gguf_header import Header


class Table(BaseModel):
    """One table of a profile. Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Architecture(Table):
    """The numbers the memory formulas need, by their GGUF names.

    ``header_bytes`` are those bytes of a file that are no tensors; the vocabulary is nearly all of them.
    In a mixture of experts ``feed_forward_length`` is the shared expert's.
    """

    name: str
    block_count: int = Field(gt=0)
    full_attention_interval: int = Field(1, gt=0)
    embedding_length: int = Field(gt=0)
    feed_forward_length: int = Field(0, ge=0)
    head_count: int = Field(gt=0)
    head_count_kv: int = Field(gt=0)
    key_length: int = Field(gt=0)
    value_length: int = Field(gt=0)
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
    header_bytes: int = Field(0, ge=0)
    unverified: tuple[str, ...] = ()
    source: str

    @property
    def attention_layers(self) -> int:
        """Layers that keep keys and values; the others keep a recurrent state."""
        return self.block_count // self.full_attention_interval


def architecture_of(header: Header) -> Architecture:
    """Return the numbers of a model from the header of its first file.

    Raises:
        FetchError: the header names no architecture, or lacks a number that every model has.
    """
    name = header.architecture
    if name is None:
        raise FetchError("cannot use the file: its header names no architecture")

    def number(key: str, default: int | None = None) -> int:
        value = header.number(f"{name}.{key}")
        value = default if value is None else value
        if value is None:
            raise FetchError(f"cannot use the file: its header has no {name}.{key}")
        return value

    heads, wide = number("attention.head_count"), number("embedding_length")
    tensors = {tensor.name: tensor for tensor in header.tensors}
    embedding = tensors.get("token_embd.weight")
    return Architecture(
        name=name,
        block_count=number("block_count"),
        full_attention_interval=number("full_attention_interval", 1),
        embedding_length=wide,
        feed_forward_length=number("feed_forward_length", 0),
        head_count=heads,
        head_count_kv=number("attention.head_count_kv", heads),
        key_length=number("attention.key_length", wide // heads),
        value_length=number("attention.value_length", wide // heads),
        ssm_conv_kernel=number("ssm.conv_kernel", 0),
        ssm_state_size=number("ssm.state_size", 0),
        ssm_group_count=number("ssm.group_count", 0),
        ssm_time_step_rank=number("ssm.time_step_rank", 0),
        ssm_inner_size=number("ssm.inner_size", 0),
        vocab_size=embedding.dims[1] if embedding is not None else number("vocab_size"),
        context_length=number("context_length"),
        tied_embeddings="output.weight" not in tensors,
        expert_count=number("expert_count", 0),
        expert_used_count=number("expert_used_count", 0),
        expert_feed_forward_length=number("expert_feed_forward_length", 0),
        header_bytes=header.data_offset,
        source="the file's own header",
    )
