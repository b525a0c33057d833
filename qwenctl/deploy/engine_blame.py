"""Whether a new engine is at fault when a configuration generated no token. Pure: no I/O."""

from qwenctl.engine.program import NAMED, EngineIdentity
from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import states as supervised
from qwenctl.supervise.exits import BUILD_CAUSES, KILLED, MEMORY_BUSY, Ending
from qwenctl.supervise.states import Rejection

NOT_THE_ENGINE = frozenset({KILLED, MEMORY_BUSY, "port_taken", "model_missing", "model_corrupt"})
"""Causes that the engine before would have met as well."""
UNSUITED = "does not work here"


def blames_engine(rejected: Rejection, good: Configuration) -> bool:
    """Return whether the engine of what was rejected did not work, where that of ``good`` does.

    With the same settings the engine is the only thing that is new. With others, too, only a cause that is
    always the build's counts.
    """
    tried = rejected.configuration
    if tried.engine.is_same(good.engine):
        return False
    cause = rejected.why.cause
    return cause in BUILD_CAUSES or (tried.settings == good.settings and cause not in NOT_THE_ENGINE)


def unsuited_engine(tried: Configuration, server: supervised.State) -> Ending | None:
    """Return how the first server ended, if its build does not suit this machine and another one may.

    One that a person named is the only one.
    """
    phase, last = server.phase, server.last
    parked = isinstance(phase, supervised.Failed) and phase.configuration.starts_like(tried)
    if not parked or last is None or tried.engine.place in ("", NAMED):
        return None
    return last if last.cause in BUILD_CAUSES else None


def told_rejection(summary: str, engine: EngineIdentity, instead: EngineIdentity | None) -> str:
    """Return why a configuration was rejected, with both engines where the new one is at fault."""
    if instead is None:
        return summary
    if engine.path == instead.path:
        return f"{summary}; {engine} took the place of {instead.version} and {UNSUITED}"
    return f"{summary}; {engine.called} {UNSUITED}, {instead.called} is in force again"


def cause_alone(told: str) -> str:
    """Return the summary of which ``told_rejection`` made its text."""
    summary, separator, both = told.rpartition("; ")
    return summary if separator and UNSUITED in both else told
