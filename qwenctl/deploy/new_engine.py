"""Prove a new engine before anything is stopped for it. Blocks: it runs where a wish is planned.

An engine is new if it is not the one in force: another program, or other files under the same path. It has to
pass the smoke test. One that does not is remembered, so that it is not taken again by itself.
"""

from collections.abc import Callable
from pathlib import Path

from qwenctl import paths
from qwenctl.deploy import pipeline
from qwenctl.deploy.missing_engine import OnProgress, install_one, install_policy
from qwenctl.deploy.refused_engines import choose_back, refuse_engine
from qwenctl.deploy.types import Draft, ResolvedSettings
from qwenctl.engine.builds.installed_engines import read_engine
from qwenctl.engine.program import NAMED, EngineIdentity
from qwenctl.engine.smoke_test import SmokeResult, smoke_test
from qwenctl.engine.usability import Unusable
from qwenctl.engine.used_flags import needed
from qwenctl.errors import CardAwayError, NoServerError
from qwenctl.plan.outcome import MemoryRefusal

MOST_TRIED = 8
"""More engines than places where one is looked for: each is refused once."""


def draft(
    resolved: ResolvedSettings,
    refused: frozenset[MemoryRefusal],
    in_force: EngineIdentity | None,
    *,
    serving: bool,
    stopped: Callable[[], bool],
    on_progress: OnProgress = lambda _progress: None,
) -> Draft:
    """Return the plan with the first usable engine; a new one has passed the smoke test.

    Where a new one does not pass, and the engine ``in_force`` could not be started again (nothing serves, or
    its files were replaced), the next usable one is taken instead. Else the wish is refused: the engine in
    force serves on, and is the chosen one again.

    Raises:
        NoServerError: the new engine does not work here; or as ``pipeline.draft``.
        FetchError: none is usable, and the one to be installed cannot be had.
    """
    for _ in range(MOST_TRIED):
        made = _draft_or_install(resolved, refused, stopped, on_progress)
        engine = made.server.identity
        if in_force is None or engine.is_same(in_force):
            return made
        result = _smoke_test(made, stopped)
        if result.unusable is None:
            return made
        if stopped():
            break  # nobody waits for the answer, and it says nothing of the engine
        _refuse(resolved.folder, engine, result.unusable, in_force)
        if engine.place == NAMED or (serving and engine.path != in_force.path):
            raise _error(engine, result.unusable, in_force if serving else None)
    raise NoServerError("cannot use any llama-server: none passed the smoke test", hint="qwenctl doctor")


def _draft_or_install(
    resolved: ResolvedSettings,
    refused: frozenset[MemoryRefusal],
    stopped: Callable[[], bool],
    on_progress: OnProgress,
) -> Draft:
    """Return the plan. Where no engine is usable and the settings say ``auto``, one is installed first."""
    try:
        return pipeline.draft(resolved, refused)
    except CardAwayError:
        raise  # no other build helps
    except NoServerError:
        if install_policy(resolved.settings, yes=False, can_ask=False) != "install":
            raise
    install_one(resolved.settings, on_progress, stopped)
    return pipeline.draft(resolved, refused)


def _smoke_test(made: Draft, stopped: Callable[[], bool]) -> SmokeResult:
    engine, settings = made.server.identity, made.resolved.settings
    expects = None
    if engine.name is not None and settings.hardware.gpu != "off":
        installed = read_engine(paths.engines_dir(), engine.name)
        expects = installed.build.backend if installed is not None else None
    return smoke_test(
        engine.path,
        paths.cache_dir(),
        expects=expects,
        needed=needed(settings),
        on_cpu=settings.hardware.gpu == "off",
        stopped=stopped,
    )


def _refuse(folder: Path, engine: EngineIdentity, why: Unusable, instead: EngineIdentity) -> None:
    engines = paths.engines_dir()
    refuse_engine(folder, engines, engine, why.summary)
    if engine.name is not None:
        choose_back(engines, instead)


def _error(engine: EngineIdentity, why: Unusable, serving: EngineIdentity | None) -> NoServerError:
    goes_on = f"; {serving} serves on" if serving is not None else ""
    return NoServerError(f"cannot use llama-server {engine}: {why.summary}{goes_on}", hint=why.hint)
