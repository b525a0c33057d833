"""Build llama-server's command line from a plan, one option a line. Pure: no I/O.

The options are those of the recipe in the profile, plus what supervision needs. The API key never
appears here: it stays in a file.
"""

import json
import shlex
from dataclasses import dataclass

from qwenctl.engine.address import Address
from qwenctl.engine.flags import VERBOSITY, Known, Option, fit_to, parse_extra, words
from qwenctl.errors import SettingsError
from qwenctl.plan.planner import Plan
from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class Launch:
    """What the plan does not have: the binary, the file, the address.

    ``devices`` are the ids of the accelerators to use; None lets llama.cpp use all it finds. ``key_file`` has
    the keys that the server itself asks its clients for. ``slots`` is the folder that it saves slots to.
    ``thinking`` are the switches that the model's chat template reads; no others are passed.
    """

    binary: str
    model: str
    address: Address
    devices: tuple[str, ...] | None = None
    key_file: str | None = None
    slots: str | None = None
    thinking: tuple[str, ...] = ("enable_thinking", "preserve_thinking")


OWNED = {
    **dict.fromkeys(("--host",), "[server] host"),
    **dict.fromkeys(("--port",), "[server] port"),
    **dict.fromkeys(("-m", "--model", "-hf", "-hfr", "--hf-repo", "-mu", "--model-url"), "[model]"),
    **dict.fromkeys(("-a", "--alias"), "the profile's name"),
    **dict.fromkeys(("--api-key", "--api-key-file"), "[server] api_key_file"),
    **dict.fromkeys(("--rpc",), "[server] rpc"),
    **dict.fromkeys(("-dev", "--device"), "[hardware] devices"),
    **dict.fromkeys(("-np", "--parallel"), "[context] parallel"),
    **dict.fromkeys(("-c", "--ctx-size"), "[context] tokens"),
}
"""Flags that extra_args may not set, and the setting to use instead."""


def argv(launch: Launch, plan: Plan, settings: Settings, known: Known | None) -> tuple[str, ...]:
    """Return the whole command line, in the words that this binary knows (None: there is no binary to ask).

    Raises:
        LaunchError: the binary does not know one of the flags.
        SettingsError: extra_args set a flag that qwenctl sets itself.
    """
    wanted, extra = options(launch, plan, settings), _extra(settings.server.extra_args)
    fitted = wanted + extra if known is None else fit_to(wanted, known, launch.binary, extra)
    return (launch.binary, *words(fitted))


def lines(command_line: tuple[str, ...]) -> list[str]:
    """Return a command line with one option a line, quoted for a shell."""
    rows: list[list[str]] = []
    for word in command_line:
        if rows and not word.startswith("-") and len(rows) > 1:
            rows[-1].append(word)
        else:
            rows.append([word])
    return [shlex.join(row) for row in rows]


def options(launch: Launch, plan: Plan, settings: Settings) -> tuple[Option, ...]:
    """Return the options for a plan and its settings, in the words of the current llama-server."""
    sampling, reasoning, address = settings.sampling, settings.reasoning, launch.address
    quantized = plan.kv_type not in ("f16", "bf16", "f32")
    wanted: list[Option | None] = [
        Option("-m", launch.model),
        Option("--alias", plan.profile),
        Option("--no-mmproj"),
        Option("--rpc", ",".join(settings.server.rpc)) if settings.server.rpc else None,
        _device(launch.devices),
        Option("--fit", "on"),
        Option("-np", str(plan.parallel)),
        Option("-c", str(plan.context_tokens * plan.parallel)),
        Option("-ctk", plan.kv_type) if plan.kv_type != "f16" else None,
        Option("-ctv", plan.kv_type) if plan.kv_type != "f16" else None,
        Option("--flash-attn", "on") if quantized else None,
        Option("--cache-ram", str(plan.cache_ram_mib)),
        Option("--ctx-checkpoints", str(plan.checkpoints)),
        Option("--jinja"),
        _number("--temp", sampling.temperature),
        _number("--top-p", sampling.top_p),
        _number("--top-k", sampling.top_k),
        _number("--min-p", sampling.min_p),
        _number("--presence-penalty", sampling.presence_penalty),
        _number("--repeat-penalty", sampling.repeat_penalty),
        Option("--reasoning", reasoning.mode) if "enable_thinking" in launch.thinking else None,
        Option("--reasoning-budget", str(reasoning.budget)) if reasoning.budget >= 0 else None,
        _preserve(launch.thinking, preserve=reasoning.preserve),
        Option("--host", address.host),
        Option("--port", str(address.port)) if address.port is not None else None,
        Option("--api-key-file", launch.key_file) if launch.key_file else None,
        Option("--slot-save-path", launch.slots) if launch.slots else None,
        VERBOSITY,
    ]
    return tuple(option for option in wanted if option is not None)


def _number(flag: str, value: float | None) -> Option | None:
    return None if value is None else Option(flag, str(value))


def _preserve(switches: tuple[str, ...], *, preserve: bool) -> Option | None:
    if "preserve_thinking" not in switches:
        return None
    return Option("--chat-template-kwargs", json.dumps({"preserve_thinking": preserve}))


def _device(devices: tuple[str, ...] | None) -> Option | None:
    return None if devices is None else Option("--device", ",".join(devices) or "none")


def _extra(arguments: tuple[str, ...]) -> tuple[Option, ...]:
    extra = parse_extra(arguments)
    for option in extra:
        if option.flag in OWNED:
            raise SettingsError(
                f"cannot use setting server.extra_args: qwenctl sets {option.flag} itself",
                hint=f"use {OWNED[option.flag]} instead",
            )
    return extra
