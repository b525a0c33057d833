"""What the daemon is doing, at a glance: one file is read, so it works when the daemon hangs.

Only where that file could not be written (a full disk), the daemon is asked over its socket.
"""

from pathlib import Path

from qwenctl import __version__, paths
from qwenctl.cli.output import Result, Session
from qwenctl.control.state_dir import CHILD, read_status, running
from qwenctl.errors import ExitCode, NotRunningError


def look(session: Session) -> Result:
    """Return the status; exit code 0 when ready or idle, 7 otherwise.

    Raises:
        NotRunningError: no daemon runs in the state folder.
    """
    folder = paths.state_dir()
    status = (read_status(folder) or _told(folder)) if running(folder) is not None else None
    if status is None:
        raise _not_running(folder)
    if status.get("version") != __version__:
        session.say(f"note: {other_version(status)}")
    good = status.get("phase") in ("ready", "idle")
    return Result(status, "\n".join(_lines(status)), ExitCode.OK if good else ExitCode.NOT_READY)


def _not_running(folder: Path) -> NotRunningError:
    """Say that no daemon runs, and whether the server of one that was killed still does."""
    said = "cannot show status: the daemon is not running"
    if (folder / CHILD).exists():
        from qwenctl.supervise.identity import left_over

        server = left_over(folder / CHILD)
        if server is not None:
            return NotRunningError(
                f"{said}, but its server still runs (pid {server.pid})",
                hint="qwenctl down ends it; so does the next qwenctl up",
            )
    return NotRunningError(said, hint="qwenctl up starts it")


def other_version(status: dict[str, object]) -> str:
    """Say that the daemon is of another version than this command, and what helps."""
    return (
        f"the daemon is version {status.get('version')}, this is {__version__}; "
        "qwenctl reexec puts this one in its place"
    )


def _told(folder: Path) -> dict[str, object] | None:
    from qwenctl.control.call import call

    told = call(folder, "GET", "/v1/status")
    return told if isinstance(told, dict) else None


def _lines(status: dict[str, object]) -> list[str]:
    plan, restarts, ending = status.get("plan"), status.get("restarts"), status.get("last_ending")
    lines = [f"{status['phase']} since {status['since']}"]
    if isinstance(plan, dict):
        lines.append(f"model     {plan['profile']} {plan['quant']}, {plan['context_tokens']:,} tokens")
    lines.append(f"endpoint  {status['endpoint'] or 'none yet'}")
    lines += [f"{word:8}  {said}" for word, said in engine_lines(status.get("engine"))]
    lines.append(f"server    pid {status['pid'] or 'none'}; daemon pid {status['daemon_pid']}")
    if isinstance(restarts, dict) and restarts["total"]:
        causes = ", ".join(f"{cause} {count}" for cause, count in restarts["by_cause"].items())
        lines.append(f"restarts  {restarts['total']} ({causes})")
    if status.get("newer_commit"):
        lines.append(f"newer     {status['newer_commit']} (qwenctl fetch --update moves to it)")
    if status["next_try_at"]:
        lines.append(f"next try  {status['next_try_at']}")
    if isinstance(ending, dict):
        lines.append(f"last end  {ending['summary']}")
        if ending["hint"]:
            lines.append(f"hint      {ending['hint']}")
    return lines + _wrong(status)


def engine_lines(engine: object) -> list[tuple[str, str]]:
    """Return which engine is used, and which came first and could not be, each with a word before."""
    if not isinstance(engine, dict):
        return []
    named = f" {engine['name']}" if engine.get("name") else ""
    lines = [("engine", f"{engine['path']} ({engine['version']}), from {engine['place']}{named}")]
    passed = [("not used", f"{one['path']} of {one['place']}: {one['why']}") for one in engine["passed_over"]]
    return lines + passed


def _wrong(status: dict[str, object]) -> list[str]:
    """Say what is not as the person wanted it, though something may serve."""
    back, config, troubles = status.get("rolled_back"), status.get("config"), status.get("troubles")
    lines = []
    if isinstance(back, dict):
        lines.append(f"rolled    back to the last good configuration at {back['at']}: {back['why']}")
    if isinstance(config, dict) and config["error"]:
        lines.append(f"config    {config['error']}; what it said before is in force")
    if status.get("degraded"):
        lines.append(f"degraded  {status['degraded']}")
    return lines + [f"trouble   {trouble}" for trouble in (troubles if isinstance(troubles, list) else ())]
