"""The command groups. Commands are imported when they run; click itself only when ``main`` needs it."""

import importlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from qwenctl import __version__
from qwenctl.cli.commands import COMMANDS
from qwenctl.cli.output import Session
from qwenctl.cli.usage import no_such_command, usage_error

Function = TypeVar("Function", bound=Callable[..., object])


class Group(click.Group):
    """A group that suggests a command when it does not know one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command and its own arguments.

        Raises:
            SettingsError: there is no such command.
        """
        if args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            raise no_such_command(ctx.command_path, args, self.list_commands(ctx))
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group that knows its commands by name and imports a command only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the help."""
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
    """Add the global options. They are accepted before and after the command."""
    options = (
        click.option("--config", metavar="FILE", help="Use this config file."),
        click.option("--profile", metavar="NAME", help="Use this model profile."),
        click.option("--json", is_flag=True, help="Print one JSON object."),
        click.option("-q", "--quiet", is_flag=True, help="Print only data and errors."),
        click.option("-v", "--verbose", is_flag=True, help="Print more."),
    )
    for option in reversed(options):
        function = option(function)
    for parameter in getattr(function, "__click_params__", ())[-len(options) :]:
        parameter.expose_value = False
        parameter.callback = _remember
    return function


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@common
@click.version_option(__version__, prog_name="qwenctl")
def group() -> None:
    """Run one local model: choose, download, start and supervise it with llama-server."""


def invoke(arguments: Sequence[str], session: Session, command: str) -> object:
    """Run one command line and return the command's result. Without arguments it prints the help.

    Raises:
        SettingsError: the command line is wrong.
        KeyboardInterrupt: Ctrl-C at a prompt.
    """
    try:
        return group.main(
            list(arguments) or ["--help"], prog_name="qwenctl", standalone_mode=False, obj=session
        )
    except click.ClickException as error:
        raise usage_error(command, error) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
