"""The command group. Commands are imported when they run; click itself only when ``main`` needs it."""

import importlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from qwenctl import __version__
from qwenctl.cli.commands import COMMANDS
from qwenctl.cli.output import Session
from qwenctl.errors import SettingsError

Function = TypeVar("Function", bound=Callable[..., object])


class Lazy(click.Group):
    """A group that knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"qwenctl.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    session = ctx.find_root().obj
    if value and parameter.name is not None:
        setattr(session, parameter.name, value)


def common(function: Function) -> Function:
    """Add the global options; they are accepted before and after the command."""
    options = (
        click.option("--config", metavar="FILE", help="Another config.toml."),
        click.option("--profile", metavar="NAME", help="Another model profile."),
        click.option("--json", is_flag=True, help="Print one JSON object."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but data and errors."),
        click.option("-v", "--verbose", is_flag=True, help="Say more."),
    )
    for option in reversed(options):
        function = option(function)
    for parameter in getattr(function, "__click_params__", ())[-len(options) :]:
        parameter.expose_value = False
        parameter.callback = _remember
    return function


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@common
@click.version_option(__version__, prog_name="qwenctl")
def group() -> None:
    """Keep one local model answering: plan, fetch, launch and supervise llama-server."""


def invoke(arguments: Sequence[str], session: Session, command: str) -> object:
    """Run one command line and return what the command returned.

    Raises:
        SettingsError: the words make no command.
        KeyboardInterrupt: Ctrl-C at a prompt.
    """
    try:
        return group.main(list(arguments), prog_name="qwenctl", standalone_mode=False, obj=session)
    except click.ClickException as error:
        raise _usage(command, error) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error


def _usage(command: str, error: click.ClickException) -> SettingsError:
    where = f"qwenctl {command}".strip()
    said = error.format_message()
    hint = None
    if isinstance(error, click.NoSuchOption):
        said = f"no such option {error.option_name}"
        hint = f"did you mean {error.possibilities[0]}?" if error.possibilities else None
    said = said[:1].lower() + said[1:].rstrip(".")
    return SettingsError(f"cannot run {where}: {said}", hint=hint or f"{where} --help")
