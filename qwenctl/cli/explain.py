"""``qwenctl explain``: what the log of a llama-server means, whoever ran it. Changes nothing."""

import signal

import click

from qwenctl.cli.group import common
from qwenctl.cli.log_source import LogSource
from qwenctl.cli.output import Result, Session
from qwenctl.errors import SettingsError
from qwenctl.supervise.evidence import ExitContext
from qwenctl.supervise.post_mortem import PostMortem, examine, name_of_end

MOST_SIGNAL = 64
SHOWN_CHARACTERS = 300


@click.command("explain", epilog="Example: qwenctl explain server.log --exit 134")
@common
@click.argument("file", metavar="FILE")
@click.option(
    "--exit",
    "code",
    type=click.IntRange(-MOST_SIGNAL, 255),
    metavar="N",
    help="The exit code of the server, or of what ran it; 128 + N is signal N.",
)
@click.option("--signal", "name", metavar="NAME", help="The signal that ended it: SIGSEGV, SEGV or 11.")
@click.pass_obj
def command(session: Session, /, file: str, code: int | None, name: str | None) -> Result:
    """Say what a llama-server's log means: why it ended, and what helps.

    FILE is a log of any llama-server, also from journald, docker or ollama; - reads it from a pipe. Of a log
    with several starts the last one is explained. Without --exit and --signal the end is taken from the log's
    last words.
    """
    del session
    if code is not None and name is not None:
        raise SettingsError(
            "cannot explain a log: --exit and --signal were both given",
            hint="one is enough: an exit code of 128 + N is signal N",
        )
    if name is not None:
        code = -_number(name)
    read = LogSource.of(file)
    tail, watch = read.tail.lines(), read.watch
    context = ExitContext(
        serving=watch.serving or None, echoed=watch.echoed, known=watch.known, platform=read.system
    )
    found = examine(tail, code, context)
    return Result(_data(file, found), _text(found, empty=not any(line.strip() for line in tail)))


def _number(name: str) -> int:
    wanted = name.upper()
    known = {one.name: one.value for one in signal.Signals}
    number = int(wanted) if wanted.isdecimal() else known.get(f"SIG{wanted.removeprefix('SIG')}", 0)
    if not 1 <= number <= MOST_SIGNAL:
        hint = "for example SIGSEGV, SIGABRT, SIGKILL; kill -l lists them"
        raise SettingsError(f"cannot explain a log: there is no signal {name!r}", hint=hint)
    return number


def _data(file: str, found: PostMortem) -> dict[str, object]:
    ending = found.ending
    return {
        "file": file,
        "ended": ending is not None,
        "cause": ending.cause if ending else None,
        "summary": ending.summary if ending else None,
        "permanent": ending.permanent if ending else None,
        "hint": ending.hint if ending else None,
        "line": found.proof,
        "qwenctl": found.action,
        "exit": None if found.code is None else {"code": found.code, "assumed": found.assumed},
        "took_requests": found.serving,
        "clients_wrote": found.echoed,
        "is_llama_server": found.known,
    }


def _text(found: PostMortem, *, empty: bool) -> str:
    notes = []
    if empty:
        notes.append("note: the log is empty")
    elif not found.known:
        notes.append("note: this does not look like the log of a llama-server")
    if found.echoed:
        notes.append("note: a client's text stands in this log; nothing after it counts but the end itself")
        notes.append("hint: what was printed since the server's last start, alone, may show more")
    if found.ending is None:
        state = "it took requests" if found.serving else "it had not taken requests yet"
        said = (
            f"no end: nothing in this log shows that the server ended; {state}" if found.known else "no end"
        )
        if empty or not found.known:
            said = "no end: nothing here shows why a server ended"
        return "\n".join((said, "hint: --exit N or --signal NAME says how it ended", *notes))
    ending, code = found.ending, found.code or 0
    summary = "it ended cleanly, because it was asked to stop" if found.clean else ending.summary
    assumed = " (taken from the log; --exit N or --signal NAME says it)" if found.assumed else ""
    rows = [
        f"cause      {ending.cause}{' (permanent)' if ending.permanent else ''}",
        f"summary    {summary}",
        f"end        {name_of_end(code)}{assumed}",
        f"line       {found.proof.strip()[:SHOWN_CHARACTERS]}" if found.proof else None,
        f"qwenctl    would {found.action}",
        f"you        {ending.hint}" if ending.hint else None,
        *notes,
    ]
    return "\n".join(row for row in rows if row)
