"""What a profile says: a model's architecture, its quants, hardware rows, sampling. Pure: no I/O.

Every table carries a ``source``. ``estimated`` marks a size that was not read from the file itself,
``unverified`` a number with one source only.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from qwenctl.hardware.facts import MemoryKind


class Table(BaseModel):
    """One table of a profile. Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Hub(Table):
    """Where the files come from."""

    repo: str
    revision: str = "main"
    source: str


class Architecture(Table):
    """The numbers the memory formulas need, by their GGUF names."""

    name: str
    block_count: int = Field(gt=0)
    full_attention_interval: int = Field(gt=0)
    embedding_length: int = Field(gt=0)
    feed_forward_length: int = Field(gt=0)
    head_count: int = Field(gt=0)
    head_count_kv: int = Field(gt=0)
    key_length: int = Field(gt=0)
    value_length: int = Field(gt=0)
    ssm_conv_kernel: int = Field(gt=0)
    ssm_state_size: int = Field(gt=0)
    ssm_group_count: int = Field(gt=0)
    ssm_time_step_rank: int = Field(gt=0)
    ssm_inner_size: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    context_length: int = Field(gt=0)
    unverified: tuple[str, ...] = ()
    source: str


class File(Table):
    """One file of a quant. ``sha256`` is its LFS id; unknown until the hub has been read."""

    name: str
    bytes: int = Field(gt=0)
    sha256: str | None = None


class Quant(Table):
    """One quantization of the model.

    ``token_embd_bytes`` stay on the host whatever is offloaded (llama.cpp keeps the input embedding there).
    """

    name: str
    files: tuple[File, ...] = Field(min_length=1)
    pattern: str | None = None
    token_embd_bytes: int = Field(gt=0)
    bits_per_weight: float = Field(gt=0)
    estimated: bool = False
    note: str | None = None
    source: str

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(file.bytes for file in self.files)


class Row(Table):
    """Machines with at least ``at_least_gb`` (10^9 bytes) of such memory are recommended this quant."""

    memory: tuple[MemoryKind | Literal["cpu"], ...]
    at_least_gb: float = Field(ge=0)
    quant: str


class SamplingPreset(Table):
    """One row of the model card's sampling table."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    repeat_penalty: float
    source: str


class Profile(Table):
    """One model that qwenctl can serve."""

    schema_: Literal[1] = Field(alias="schema")
    name: str
    title: str
    note: str | None = None
    generated: bool = False  # the file is made on this machine (random weights), never fetched
    hub: Hub | None = None
    architecture: Architecture
    quants: tuple[Quant, ...] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)
    sampling: dict[str, SamplingPreset]
    settings: dict[str, object] = {}

    def quant(self, name: str) -> Quant | None:
        """Return the quant of that name, letter case aside."""
        return next((quant for quant in self.quants if quant.name.lower() == name.lower()), None)
