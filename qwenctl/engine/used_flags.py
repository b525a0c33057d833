"""The options that a command line of ours may have, each with a value that stands for all. Pure: data only.

launch/argv.py writes them; a test holds the two together. They are listed here so that an engine can be
judged before there is a plan.
"""

from collections.abc import Iterable

from qwenctl.engine.flags import DEFAULTS, VERBOSITY, Known, Option, translated, words
from qwenctl.settings.types import Settings

ALWAYS = (
    Option("-m", "FILE"),
    Option("--alias", "NAME"),
    Option("--no-mmproj"),
    Option("--fit", "on"),
    Option("-np", "1"),
    Option("-c", "256"),
    Option("--ctx-checkpoints", "2"),
    Option("--jinja"),
    Option("--temp", "0.6"),
    Option("--top-p", "0.95"),
    Option("--top-k", "20"),
    Option("--min-p", "0.0"),
    Option("--presence-penalty", "0.0"),
    Option("--repeat-penalty", "1.0"),
    Option("--reasoning", "on"),
    Option("--host", "ADDRESS"),
    VERBOSITY,
)
"""What every command line has."""
SOMETIMES = (
    Option("--rpc", "ADDRESSES"),
    Option("--device", "IDS"),
    Option("-ctk", "q8_0"),
    Option("-ctv", "q8_0"),
    Option("--flash-attn", "on"),
    Option("--cache-ram", "4096"),
    Option("--reasoning-budget", "100"),
    Option("--chat-template-kwargs", "TABLE"),
    Option("--port", "8080"),
    Option("--api-key-file", "FILE"),
    Option("--slot-save-path", "FOLDER"),
)
"""What a setting, the plan or the model adds."""


def needed(settings: Settings) -> tuple[Option, ...]:
    """Return the options that these settings need, whatever the plan will be."""
    wanted = {
        "--rpc": bool(settings.server.rpc),
        "--device": bool(settings.hardware.devices) or settings.hardware.gpu == "off",
        "--cache-ram": settings.context.cache_ram_mib > 0,
        "--slot-save-path": settings.gate.enabled,
        "--port": not settings.gate.enabled,
        "--api-key-file": not settings.gate.enabled and settings.server.api_key_file is not None,
        "--reasoning-budget": settings.reasoning.budget >= 0,
    }
    return ALWAYS + tuple(option for option in SOMETIMES if wanted.get(option.flag))


def missing(options: Iterable[Option], known: Known) -> tuple[str, ...]:
    """Return the options that an engine neither knows nor does anyway, as a command line has them."""
    return tuple(
        " ".join(words((option,)))
        for option in options
        if translated(option, known) is None and option not in DEFAULTS
    )


def changed_flags(old: Known, new: Known, used: Iterable[Option] = ALWAYS + SOMETIMES) -> tuple[str, ...]:
    """Return what is different in the used options between two engines, one line each."""
    return tuple(line for option in used for line in _changes(option, old, new))


def _changes(option: Option, old: Known, new: Known) -> Iterable[str]:
    before, after = translated(option, old), translated(option, new)
    flag = option.flag
    if before is None and after is None:
        return
    if before is None or after is None:
        yield f"{flag} is {'known now' if after is not None else 'not known any more'}"
        return
    if before != after:
        yield f"{' '.join(words((before,)))} is now {' '.join(words((after,)))}"
    was, now = old[before.flag], new[after.flag]
    if was.default != now.default:
        yield f"{flag}: the default was {was.default or 'none'}, and is {now.default or 'none'} now"
    if was.choices != now.choices:
        yield f"{flag}: the values were {_listed(was.choices)}, and are {_listed(now.choices)} now"


def _listed(choices: tuple[str, ...]) -> str:
    return ", ".join(choices) or "free"
