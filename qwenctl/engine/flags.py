"""Which flags a llama-server has, by its ``--help``, and what they are called in another build. Pure: no I/O.

A version number cannot tell (release builds and packages count differently), so the text is parsed.
"""

import re
import shlex
from dataclasses import dataclass
from typing import NamedTuple

from qwenctl.errors import LaunchError

_NAME = re.compile(r"\s*(--?[A-Za-z][\w-]*)(,?)")
_CHOICES = re.compile(r"[\[{]([^\[\]{}<>]*[|,][^\[\]{}<>]*)[\]}]")
_DEFAULT = re.compile(r"\(default: '?([^,;)']*)'?")


class Option(NamedTuple):
    """One option of a command line."""

    flag: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """One entry of a help text: all its names, whether a value follows, which values if it lists them."""

    names: tuple[str, ...]
    takes_value: bool
    choices: tuple[str, ...]
    default: str | None


Known = dict[str, Flag]
"""Every name a binary knows, each with its entry."""

RENAMED: dict[Option, Option] = {
    Option("--mlock"): Option("--load-mode", "mlock"),
    Option("--no-mmap"): Option("--load-mode", "none"),
    Option("-dio"): Option("--load-mode", "dio"),
    Option("--direct-io"): Option("--load-mode", "dio"),
    Option("--load-mode", "mlock"): Option("--mlock"),
    Option("--load-mode", "none"): Option("--no-mmap"),
    Option("--load-mode", "dio"): Option("-dio"),
    Option("--flash-attn", "on"): Option("--flash-attn"),
    Option("--flash-attn"): Option("--flash-attn", "on"),
    Option("-fa", "on"): Option("-fa"),
    Option("-fa"): Option("-fa", "on"),
    Option("--reasoning", "off"): Option("--reasoning-budget", "0"),
    Option("--fit", "on"): Option("--n-gpu-layers", "999"),
}
"""An option, and the option of another build that has the same effect.

Source: tools/server/README.md of llama.cpp, builds before and after --load-mode,
before and after --flash-attn took a value, before --reasoning, before --fit.
"""

OTHER_NAMES: dict[str, tuple[str, ...]] = {"-ctxcp": ("--ctx-checkpoints", "--swa-checkpoints")}
"""A flag, and its names in older builds. Source: common/arg.cpp of llama.cpp, b6400 to b8217."""

DEFAULTS: frozenset[Option] = frozenset(
    {
        Option("--no-mmproj"),  # builds without it load a projector only when one is named
        Option("--jinja"),  # builds without it always use the template engine
        Option("--reasoning", "on"),  # builds without it think when the template does
        Option("--reasoning", "auto"),
        Option("--reasoning-budget", "-1"),
        Option("--flash-attn", "off"),  # builds whose flag takes no value have it off
        Option("--load-mode", "auto"),
        Option("--load-mode", "mmap"),
        Option("--cache-ram", "0"),  # builds without it keep no prompts
    }
)
"""Options whose effect a build without the flag has anyway."""


UPDATE = "update llama.cpp, or set [server] binary to a newer llama-server"
REMOVE = "remove {} from [server] extra_args, or use a llama-server that has it"


def parse_help(text: str) -> Known:
    """Return the flags that a ``--help`` text lists. Lines that describe no option are skipped."""
    known: Known = {}
    entries: list[tuple[list[str], str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("-") and (head := _read_head(line)):
            entries.append((*head, []))
        elif entries and line.startswith(" "):
            entries[-1][2].append(line.strip())
    for names, rest, more in entries:
        placeholder, _, described = rest.partition("  ")
        text_of = " ".join([described.strip(), *more])
        default = _DEFAULT.search(text_of)
        choices = _CHOICES.fullmatch(placeholder.strip())
        flag = Flag(
            names=tuple(names),
            takes_value=bool(placeholder.strip()),
            choices=tuple(re.split(r"[|,]", choices.group(1))) if choices else (),
            default=default.group(1).strip() if default else None,
        )
        known |= dict.fromkeys(names, flag)
    return known


def fit_to(
    options: tuple[Option, ...], known: Known, binary: str, extra: tuple[Option, ...] = ()
) -> tuple[Option, ...]:
    """Return the options, then the person's own ``extra`` ones, in the words this binary knows.

    1. Known as it is: kept. 2. Known under another name: translated. 3. Says what the binary does anyway:
    dropped. 4. Anything else is an error, whose hint says where the option comes from.

    Raises:
        LaunchError: the binary does not know a flag, or does not know that value of it.
    """
    fitted: list[Option] = []
    for place, option in enumerate(options + extra):
        if (other := translated(option, known)) is not None:
            fitted.append(other)
        elif option not in DEFAULTS:
            text = shlex.join(words((option,)))
            hint = UPDATE if place < len(options) else REMOVE.format(text)
            raise LaunchError(f"cannot use {binary}: it does not know {text}", hint=hint)
    return tuple(fitted)


def translated(option: Option, known: Known) -> Option | None:
    """Return the option in the words this binary knows: as it is, or under another name; None without."""
    others = (Option(name, option.value) for name in OTHER_NAMES.get(option.flag, ()))
    candidates = (option, RENAMED.get(option), *others)
    return next((one for one in candidates if one is not None and _knows(one, known)), None)


def parse_extra(extra: tuple[str, ...]) -> tuple[Option, ...]:
    """Return a person's extra arguments as options. A word that does not start with a dash is a value."""
    options: list[Option] = []
    for word in extra:
        if re.match(r"--?[A-Za-z]", word):
            name, equals, value = word.partition("=")
            options.append(Option(name, value if equals else None))
        elif options and options[-1].value is None:
            options[-1] = Option(options[-1].flag, word)
        else:
            raise LaunchError(f"cannot use extra argument {word!r}: no flag stands before it")
    return tuple(options)


def words(options: tuple[Option, ...]) -> tuple[str, ...]:
    """Return the options as the words of a command line."""
    return tuple(word for option in options for word in option if word is not None)


def _read_head(line: str) -> tuple[list[str], str] | None:
    names: list[str] = []
    position = 0
    while match := _NAME.match(line, position):
        names.append(match.group(1))
        position = match.end()
        if not match.group(2):
            break
    return (names, line[position:].removeprefix(" ")) if names else None


def _knows(option: Option, known: Known) -> bool:
    flag = known.get(option.flag)
    if flag is None or flag.takes_value != (option.value is not None):
        return False
    return not flag.choices or option.value in flag.choices
