"""Keep what came of a new engine: it is in force, or refused; and tell it. Decides nothing."""

from pathlib import Path

from qwenctl import paths
from qwenctl.control.state_dir import REFUSED_ENGINES
from qwenctl.daemon.child_record import attempt
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.troubles import Troubles
from qwenctl.deploy import states as st
from qwenctl.deploy.refused_engines import choose_back, refuse_engine
from qwenctl.engine.ask import known_before
from qwenctl.engine.program import NAMED, EngineIdentity
from qwenctl.engine.used_flags import changed_flags


class EngineRecord:
    """The engine in force in one daemon. ``in_force`` is None until one has generated a token."""

    def __init__(
        self, folder: Path, in_force: EngineIdentity | None, troubles: Troubles, events: EventLog
    ) -> None:
        self.in_force = in_force
        self._folder, self._troubles, self._events = folder, troubles, events

    def proved(self, engine: EngineIdentity) -> None:
        """Note that this engine has generated a token, and what is different in the flags that we use."""
        before, self.in_force = self.in_force, engine
        self._troubles.set("engine", None)
        if before is None or engine.is_same(before):
            return
        old, new = (known_before(one, paths.cache_dir()) for one in (before, engine))
        flags = list(changed_flags(old, new)) if old and new else []
        self._events.note("engine_changed", before=str(before), now=str(engine), flags=flags)

    def refuse(self, refusal: st.RefuseEngine) -> bool:
        """Keep that an engine did not work here. Return whether another one must be looked for.

        That is so where nothing is back, or where its files have taken the place of those that should be.
        """
        engine, instead, engines = refusal.engine, refusal.instead, paths.engines_dir()
        trouble = attempt(
            lambda: refuse_engine(self._folder, engines, engine, refusal.why.message), REFUSED_ENGINES
        )
        if trouble is None and engine.name is not None:
            trouble = attempt(lambda: choose_back(engines, instead), str(engines))
        self._troubles.set("engine", trouble or refusal.why.message)
        self._events.note(
            "engine_refused",
            engine=str(engine),
            instead=None if instead is None else str(instead),
            error=refusal.why.message,
        )
        lost = instead is None or engine.path == instead.path
        return trouble is None and engine.place != NAMED and lost
