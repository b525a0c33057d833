"""Run one command line: print its result or its error, and return the exit code.

``status`` runs often, by hand and in scripts, so it does without click: loading click takes longer than
everything else that ``status`` does.
"""

import os
import sys
from collections.abc import Sequence

from qwenctl.cli.commands import COMMANDS
from qwenctl.cli.output import Result, Session, complain, show
from qwenctl.errors import ExitCode, QwenctlError

INTERRUPTED = 130
"""128 + SIGINT, what a shell reports."""
QUICK = ({"status"}, {"status", "--json"}, {"status", "-q"}, {"status", "--quiet"})


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    session = Session()
    session.json = "--json" in arguments
    command = next((word for word in arguments if word in COMMANDS), "")
    try:
        code = _run_and_print(arguments, session, command)
        sys.stdout.flush()
        if sys.platform == "darwin" and os.geteuid() == 0:
            from qwenctl.service.service_folders import give_back

            give_back()
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.FAILED
    return code


def _run_and_print(arguments: Sequence[str], session: Session, command: str) -> int:
    """Run the command and print its result or its error."""
    try:
        result = _run(arguments, session, command)
    except QwenctlError as error:
        complain(session, command, error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the one broad catch: an unexpected error is reported as a bug
        return _bug(session, command, error)
    if isinstance(result, Result):
        show(session, command, result)
        return result.exit_code
    return result if isinstance(result, int) else ExitCode.OK


def _run(arguments: Sequence[str], session: Session, command: str) -> object:
    if set(arguments) in QUICK:
        from qwenctl.cli.status_text import look

        return look(session)
    from qwenctl.cli.group import invoke

    return invoke(arguments, session, command)


def _bug(session: Session, command: str, error: Exception) -> int:
    import traceback

    traceback.print_exception(error)
    bug = QwenctlError(f"cannot go on: {type(error).__name__}: {error}", hint="this is a bug in qwenctl")
    bug.exit_code = ExitCode.BUG
    complain(session, command, bug)
    return bug.exit_code


def _drop_stdout() -> None:
    """The reader of our output is gone. Keep the interpreter from failing when it flushes stdout at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
