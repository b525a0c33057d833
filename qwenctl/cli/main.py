"""The command group. Commands are imported when they run, so that ``status`` answers at once."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from qwenctl import __version__
from qwenctl.cli.output import Result, Session, complain, show
from qwenctl.errors import ExitCode, QwenctlError, SettingsError

COMMANDS = {
    "up": "Start the server, keep it up, and wait for its first token.",
    "down": "Stop the server and the daemon.",
    "restart": "Start the server afresh.",
    "run": "Run the daemon in the foreground.",
    "status": "Show what the daemon is doing.",
    "logs": "Show what the server printed.",
    "plan": "Explain which quant and context this machine gets.",
    "argv": "Print llama-server's command line.",
    "hardware": "Show what this machine is.",
    "profiles": "List the model profiles.",
    "settings": "Show every setting and where its value comes from.",
}
INTERRUPTED = 130
"""128 + SIGINT, what a shell reports."""

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
        module = importlib.import_module(f"qwenctl.cli.{cmd_name}")
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


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    session = Session()
    session.json = "--json" in arguments
    command = next((word for word in arguments if word in COMMANDS), "")
    try:
        result = group.main(list(arguments), prog_name="qwenctl", standalone_mode=False, obj=session)
        if isinstance(result, Result):
            show(session, command, result)
            sys.stdout.flush()
            return result.exit_code
        return result if isinstance(result, int) else ExitCode.OK
    except click.ClickException as error:
        wrong = _usage(command, error)
        complain(session, command, wrong)
        return wrong.exit_code
    except QwenctlError as error:
        complain(session, command, error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the one broad catch: it says that this is a bug
        traceback.print_exc()
        bug = QwenctlError(f"cannot go on: {type(error).__name__}: {error}", hint="this is a bug in qwenctl")
        bug.exit_code = ExitCode.BUG
        complain(session, command, bug)
        return bug.exit_code


def _usage(command: str, error: click.ClickException) -> SettingsError:
    where = f"qwenctl {command}".strip()
    said = error.format_message()
    hint = None
    if isinstance(error, click.NoSuchOption):
        said = f"no such option {error.option_name}"
        hint = f"did you mean {error.possibilities[0]}?" if error.possibilities else None
    said = said[:1].lower() + said[1:].rstrip(".")
    return SettingsError(f"cannot run {where}: {said}", hint=hint or f"{where} --help")


def _drop_stdout() -> None:
    """Whoever read our output has gone; do not let the interpreter trip over it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
