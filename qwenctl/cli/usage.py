"""Say what is wrong with a command line in one line, and what was probably meant. Prints nothing."""

import difflib
import re
from collections.abc import Iterable, Sequence

import click

from qwenctl.cli.commands import OTHER_OPTIONS, OTHER_WORDS, TAKES_A_MODEL
from qwenctl.errors import SettingsError

EXTRA_WORD = re.compile(r"unexpected extra arguments? \((.+)\)", re.DOTALL)


def no_such_command(path: str, words: Sequence[str], commands: Iterable[str]) -> SettingsError:
    """Return the error for the unknown command ``words[0]`` of ``path``, which is ``qwenctl`` or a group."""
    word, names = words[0], tuple(commands)
    near = difflib.get_close_matches(word.lower(), names, n=1)
    if path == "qwenctl" and (ours := OTHER_WORDS.get(word.lower())):
        hint = f"{word} is called {ours} here: qwenctl {ours}{_model(ours, words[1:])}"
    elif near:
        hint = f"did you mean {path} {near[0]}?"
    else:
        hint = f"{path} --help lists the commands"
    return SettingsError(f"cannot run {path}: no such command {word!r}", hint=hint)


def usage_error(command: str, error: click.ClickException) -> SettingsError:
    """Return what click found wrong with the words of ``command``, in one line with a hint."""
    path = f"qwenctl {command}".strip()
    cause, hint = error.format_message(), f"{path} --help"
    if isinstance(error, click.NoSuchOption):
        cause, hint = f"no such option {error.option_name}", _near_option(error, path)
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):
        group = error.ctx.command
        names = group.list_commands(error.ctx) if isinstance(group, click.Group) else []
        cause, hint = "the command is missing", f"one of {', '.join(names)}"
    elif isinstance(error, click.MissingParameter) and error.param is not None:
        cause = f"{_name(error.param)} is missing"
        if isinstance(error.param.type, click.Choice):
            hint = f"one of {', '.join(map(str, error.param.type.choices))}"
    elif (extra := EXTRA_WORD.search(cause)) and command in TAKES_A_MODEL:
        ours = "up" if command == "run" else command
        cause = f"{command} takes {'no argument' if command == 'run' else 'one model'}, got {extra[1]}"
        hint = f"qwenctl {ours}{_model(ours, extra[1].split())}"
    cause = " ".join(cause.split()).rstrip(".")
    if cause[1:2].islower():  # a sentence, not a name in capitals
        cause = cause[:1].lower() + cause[1:]
    return SettingsError(f"cannot run {path}: {cause}", hint=hint)


def _model(command: str, words: Sequence[str]) -> str:
    """Return the model that other tools take as an argument, too."""
    model = next((word for word in words if not word.startswith("-")), None)
    return f" {model}" if model is not None and command in TAKES_A_MODEL else ""


def _near_option(error: click.NoSuchOption, path: str) -> str:
    """Compare without the dashes: all options have those in common."""
    if error.option_name in OTHER_OPTIONS:
        return OTHER_OPTIONS[error.option_name]
    parameters = error.ctx.command.get_params(error.ctx) if error.ctx is not None else ()
    names = {name.lstrip("-"): name for parameter in parameters for name in parameter.opts}
    near = difflib.get_close_matches(error.option_name.lstrip("-"), names, n=1)
    return f"did you mean {names[near[0]]}?" if near else f"{path} --help"


def _name(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return (parameter.metavar or parameter.name or "argument").upper()
