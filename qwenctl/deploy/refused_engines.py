"""Remember which engines did not work on this machine, so that none of them is taken again by itself.

An installed engine has the reason in its own folder. Of any other program the fingerprint is kept here: once
its files are replaced, it is another one.
"""

from pathlib import Path

from qwenctl.control.state_dir import REFUSED_ENGINES
from qwenctl.engine.builds import installed_engines
from qwenctl.engine.builds.installed_engines import ChosenEngine
from qwenctl.engine.program import EngineIdentity
from qwenctl.files import read_json, write_json

MOST = 16
"""Refused programs that are kept: the newest."""


def refused_engines(folder: Path) -> dict[str, str]:
    """Return the fingerprints of the programs that did not work here, each with the reason."""
    kept = (read_json(folder / REFUSED_ENGINES) or {}).items()
    return {name: why for name, why in kept if isinstance(why, str)}


def refuse_engine(folder: Path, engines: Path, engine: EngineIdentity, why: str) -> None:
    """Keep that the engine did not work here.

    Raises:
        OSError: it cannot be written.
    """
    if engine.name is not None:
        installed_engines.refuse(engines, engine.name, why)
    elif engine.fingerprint:
        kept = refused_engines(folder)
        kept.pop(engine.fingerprint, None)
        write_json(folder / REFUSED_ENGINES, dict([*kept.items(), (engine.fingerprint, why)][-MOST:]))


def choose_back(engines: Path, good: EngineIdentity | None) -> None:
    """Let the installed engine that is in force again be the chosen one, or none if it is not installed.

    Raises:
        OSError: it cannot be written.
    """
    name = good.name if good is not None else None
    if installed_engines.chosen(engines).current != name:
        installed_engines.choose(engines, ChosenEngine(name, None))
