"""Install an engine and use it: what the commands of ``qwenctl engine`` that change something share."""

import difflib
import sys
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.bar import Moved, ProgressBar
from qwenctl.cli.output import Result, Session
from qwenctl.cli.progress import ProgressView
from qwenctl.control.state_dir import read_status, running
from qwenctl.control.wait import until_engine_in_force
from qwenctl.deploy.engine_blame import cause_alone
from qwenctl.engine.ask import engine_at
from qwenctl.engine.builds.engine_host import EngineHost
from qwenctl.engine.builds.install_release import (
    BroughtFile,
    EngineOffer,
    EngineSource,
    InstallProgress,
    check_brought,
    install_brought,
    install_offer,
    with_rate,
)
from qwenctl.engine.builds.installation import check_passed, prover, put_back, take
from qwenctl.engine.builds.installed_engines import InstalledEngine, chosen, installed, read_engine
from qwenctl.engine.find import AUTO
from qwenctl.engine.usability import Unusable
from qwenctl.engine.used_flags import changed_flags
from qwenctl.errors import ExitCode, QwenctlError
from qwenctl.settings.types import Settings


def engine_named(root: Path, name: str) -> InstalledEngine:
    """Return the installed engine of that name.

    Raises:
        QwenctlError: there is none; the hint has the nearest name.
    """
    names = [engine.name for engine in installed(root)]
    engine = read_engine(root, name) if name in names else None
    if engine is None:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        known = f"installed are {', '.join(names)}" if names else "qwenctl engine install installs one"
        error = QwenctlError(
            f"cannot find engine {name}: it is not installed",
            hint=f"did you mean {near[0]}?" if near else known,
        )
        error.exit_code = ExitCode.USAGE
        raise error
    return engine


def in_force(root: Path) -> frozenset[str]:
    """Return the installed engines that a running daemon may serve with, now or after a return."""
    folder = paths.state_dir()
    engine = (read_status(folder) or {}).get("engine") if running(folder) is not None else None
    path = engine.get("path") if isinstance(engine, dict) else None
    if not isinstance(path, str):
        return frozenset()
    return frozenset(each.name for each in installed(root) if Path(path).is_relative_to(each.folder))


def install_and_use(
    session: Session,
    settings: Settings,
    source: EngineSource,
    offer: EngineOffer,
    *,
    sha256: str | None = None,
    use: bool = True,
) -> Result:
    """Install what a release offers, and use it.

    Raises:
        QwenctlError: it cannot be had, or does not work here; what was in use stays.
    """
    text = offer.text
    if offer.note:
        session.say(f"note: {offer.note}")
    session.say(f"{text}: {offer.choice.reason}")
    there = {each.name for each in installed(source.root)}
    with ProgressBar(session) as bar:
        on_bytes = with_rate(lambda name, done, total, rate: bar(Moved(name, done, total, rate)))
        engine = install_offer(source, offer, InstallProgress(session.say, on_bytes), sha256=sha256)
    if not use:
        data = data_of(engine) | {"changed": True, "used": False}
        return Result(data, f"installed {engine.name}; qwenctl engine use {engine.name} uses it")
    return use_engine(session, settings, source, engine, proved=engine.name not in there)


def install_files(
    session: Session,
    source: EngineSource,
    files: tuple[Path, ...],
    sha256: str | None,
    host: EngineHost,
    *,
    yes: bool,
) -> InstalledEngine:
    """Install archives that a person brought; the digest that was given is the first one's.

    Raises:
        QwenctlError: they are not what they should be, or it does not work here.
    """
    brought = tuple(
        check_brought(source, path, sha256 if number == 0 else None) for number, path in enumerate(files)
    )
    for each in brought:
        if each.vouched is None:
            _ask_about(session, each, yes=yes)
        else:
            session.say(f"{each.path.name} has the sha256 that {each.vouched} says")
    return install_brought(source, brought, host, InstallProgress(session.say))


def use_engine(
    session: Session,
    settings: Settings,
    source: EngineSource,
    engine: InstalledEngine,
    *,
    proved: bool = False,
) -> Result:
    """Use an engine from now on; a running daemon changes over and this waits for it.

    Raises:
        QwenctlError: it does not work here, or the daemon refused it; what was in use is in use again.
    """
    root, name = source.root, engine.name
    if not proved:
        session.say(f"trying {name}: it loads a tiny model and generates a token")
        check_passed(name, prover(source.cache, engine.build.backend, source.needed)(engine.server))
    flags = _changed_flags(source, engine)
    for line in flags:
        session.say(f"changed  {line}")
    before = take(root, name)
    data = data_of(engine) | {
        "changed": before.current != name,
        "used": True,
        "previous": chosen(root).previous,
        "flags": list(flags),
        "change": None,
    }
    if settings.server.binary != AUTO:
        session.say(f"warning: it is not used, because [server] binary is {settings.server.binary}")
        return Result(data, f"chosen {name}")
    if running(paths.state_dir()) is None:
        return Result(data, f"using {name} from the next start on")
    try:
        with ProgressView(session) as view:
            change, status = until_engine_in_force(paths.state_dir(), view)
    except QwenctlError as error:
        if chosen(root).current in (name, before.current, None):
            put_back(root, before)
        again = f"{before.current or 'the engine before it'} is in use again"
        raise QwenctlError(
            f"cannot serve with {name}: {short_reason(error.message)}",
            hint=f"{again}; qwenctl events shows what happened",
        ) from error
    served = status.get("engine")
    path = served.get("path") if isinstance(served, dict) else None
    if isinstance(path, str) and not Path(path).is_relative_to(engine.folder):
        put_back(root, before)
        raise QwenctlError(
            f"cannot serve with {name}: the daemon serves with {path}",
            hint="qwenctl status says why it was passed over",
        )
    return Result(data | {"change": change}, f"serving with {name}")


def data_of(engine: InstalledEngine) -> dict[str, object]:
    """Return what ``--json`` says of an installed engine."""
    return {
        "name": engine.name,
        "tag": engine.build.tag,
        "backend": engine.build.backend,
        "asset": engine.build.asset,
        "sha256": engine.build.sha256,
        "path": str(engine.server),
    }


def _changed_flags(source: EngineSource, engine: InstalledEngine) -> tuple[str, ...]:
    """Return what is different in the flags that are used between the engine in use and this one."""
    current = chosen(source.root).current
    old = read_engine(source.root, current) if current not in (None, engine.name) else None
    if old is None:
        return ()
    before, after = engine_at(old.server, source.cache), engine_at(engine.server, source.cache)
    if isinstance(before, Unusable) or isinstance(after, Unusable):
        return ()
    return changed_flags(before.known, after.known)


def _ask_about(session: Session, brought: BroughtFile, *, yes: bool) -> None:
    session.say(f"{brought.path} has sha256 {brought.sha256}; nobody vouches for it")
    if yes:
        return
    if not sys.stdin.isatty():
        raise QwenctlError(
            f"cannot install {brought.path}: nobody vouches for it, and there is no terminal to ask on",
            hint="add --sha256 HEX from a source that you trust, or --yes",
        )
    if not click.confirm("run what is in it?", err=True):
        raise QwenctlError(f"cannot install {brought.path}: you said no")


def short_reason(text: str) -> str:
    """Return why an engine did not work, without the sentence that names both engines."""
    said = text.removeprefix("cannot serve: ").removeprefix("cannot serve what was asked for: ")
    return cause_alone(said)
