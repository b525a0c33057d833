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
_LEVEL = re.compile(r"- (\d+): (\w+)")
_ONLY = re.compile(r"only one of:? ([^(]*)")


class Option(NamedTuple):
    """One option of a command line."""

    flag: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """One entry of a help text: all its names, whether a value follows, which values if it lists them.

    ``levels`` are numbers that the text explains one by one, each with its word.
    """

    names: tuple[str, ...]
    takes_value: bool
    choices: tuple[str, ...]
    default: str | None
    levels: tuple[tuple[str, int], ...] = ()


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

OTHER_NAMES: dict[str, tuple[str, ...]] = {"--ctx-checkpoints": ("--swa-checkpoints", "-ctxcp")}
"""A flag, and its other names: the oldest long name stands first, because each build since has it.

Source: common/arg.cpp of llama.cpp: --swa-checkpoints b6400 to b6684, --ctx-checkpoints since, -ctxcp since
b8218.
"""
VERBOSITY = Option("-lv", "4")
"""The most that a log may tell without the texts of requests and answers: the level "trace" of b11434.

The number means something else elsewhere, so that it is never passed as it is. Source: common/log.h of
llama.cpp: b11434 has 4 for trace and 5 for debug; b7300 to b8500 have 4 for debug, with which
tools/server/server-http.cpp prints whole requests; builds before have no fixed levels.
"""
VERBOSITY_NAMES = ("-lv", "--verbosity", "--log-verbosity")

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
        VERBOSITY,  # builds that do not name their levels tell of the load by themselves
    }
)
"""Options whose effect a build without the flag has anyway."""


INDENT = 12
"""At most so far are options of an indented help from the left edge; descriptions begin at 32 and beyond."""
UPDATE = "update llama.cpp, or set [server] binary to a newer llama-server"
REMOVE = "remove {} from [server] extra_args, or use a llama-server that has it"


def parse_help(text: str) -> Known:
    """Return the flags that a ``--help`` text lists. Lines that describe no option are skipped.

    Options stand at the left edge. Where none does, they are indented: builds before b3700 and their forks.
    """
    known: Known = {}
    entries: list[tuple[list[str], str, list[str]]] = []
    lines = text.splitlines()
    edge = "" if any(line.startswith("-") and _read_head(line) for line in lines) else " " * INDENT
    for line in lines:
        bare = line.lstrip(" ")
        indent = line[: len(line) - len(bare)]
        if bare.startswith("-") and len(indent) <= len(edge) and (head := _read_head(bare)):
            entries.append((*head, []))
        elif entries and indent:
            entries[-1][2].append(bare.rstrip())
    for names, rest, more in entries:
        placeholder, _, described = rest.partition("  ")
        text_of = " ".join([described.strip(), *more])
        default = _DEFAULT.search(text_of)
        choices = _CHOICES.fullmatch(placeholder.strip())
        only = _ONLY.search(text_of)
        flag = Flag(
            names=tuple(names),
            takes_value=bool(placeholder.strip()),
            choices=_choices(choices, only),
            default=default.group(1).strip() if default else None,
            levels=tuple((word, int(number)) for number, word in _LEVEL.findall(text_of)),
        )
        known |= dict.fromkeys(names, flag)
    return known


def fit_to(
    options: tuple[Option, ...], known: Known, binary: str, extra: tuple[Option, ...] = ()
) -> tuple[Option, ...]:
    """Return the options, then the person's own ``extra`` ones, in the words this binary knows.

    1. Known as it is: kept. 2. Known under another name: translated. 3. Says what the binary does anyway:
    dropped. 4. Anything else is an error, whose hint says where the option comes from.

    A number of ``extra`` is what the person meant by it: only our own level of the log is translated.

    Raises:
        LaunchError: the binary does not know a flag, or does not know that value of it.
    """
    fitted: list[Option] = []
    for place, option in enumerate(options + extra):
        ours = place < len(options)
        if (other := (translated if ours else renamed)(option, known)) is not None:
            fitted.append(other)
        elif option not in DEFAULTS:
            text = shlex.join(words((option,)))
            hint = UPDATE if ours else REMOVE.format(text)
            raise LaunchError(f"cannot use {binary}: it does not know {text}", hint=hint)
    return tuple(fitted)


def translated(option: Option, known: Known) -> Option | None:
    """Return an option of ours in the words and numbers of this binary; None where it has none for it."""
    return _verbosity(known) if option == VERBOSITY else renamed(option, known)


def renamed(option: Option, known: Known) -> Option | None:
    """Return the option in the words this binary knows: as it is, or under another name; None without."""
    others = (Option(name, option.value) for name in OTHER_NAMES.get(option.flag, ()))
    candidates = (option, RENAMED.get(option), *others)
    return next((one for one in candidates if one is not None and _knows(one, known)), None)


def _verbosity(known: Known) -> Option | None:
    """Return the level below the one that prints requests: "trace" where that is another one, or "info"."""
    name = next((name for name in VERBOSITY_NAMES if name in known), None)
    levels = dict(known[name].levels) if name is not None else {}
    debug = levels.get("debug", max(levels.values(), default=0) + 1)
    quiet = [number for word, number in levels.items() if word in ("info", "trace") and number < debug]
    return Option(name, str(max(quiet))) if name is not None and quiet else None


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


def _choices(listed: re.Match[str] | None, only: re.Match[str] | None) -> tuple[str, ...]:
    """Return the values that the entry lists: in its head, or as the only numbers that its text allows."""
    if listed is not None:
        return tuple(re.split(r"[|,]", listed.group(1)))
    return tuple(re.findall(r"-?\d+", only.group(1))) if only is not None else ()


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
