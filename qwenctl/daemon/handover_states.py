"""The state machines of a daemon, by value: into the document of a handover, and out of it. No I/O.

Only phases that last are passed on. While a server starts or stops, or a wish is on its way, tasks and
transfers hang on it that no document can tell.
"""

from dataclasses import replace

from qwenctl.daemon.handover import HandedChange, HandedServer, Handover, Place
from qwenctl.deploy import states as change
from qwenctl.launch.configuration import Configuration
from qwenctl.supervise import states as st


class ConfigurationTable:
    """The configurations of a document, each once."""

    def __init__(self) -> None:
        self.all: list[Configuration] = []

    def place(self, one: Configuration | None) -> Place:
        """Return the place of a configuration; it gets one if it has none."""
        if one is None:
            return None
        for place, known in enumerate(self.all):
            if known is one or known == one:
                return place
        self.all.append(one)
        return len(self.all) - 1


NO_SERVER = HandedServer("down")
NO_CHANGE = HandedChange(0, "start", None, 0)
"""What a document says to a program that is only asked whether it can read one."""


def settled(state: change.ChangeState) -> bool:
    """Return whether no wish is on its way."""
    return change_of(state, ConfigurationTable()) is not None


def lasts(state: st.State) -> bool:
    """Return whether the supervisor is in a phase that can be passed on."""
    return server_of(state, ConfigurationTable()) is not None


def server_of(state: st.State, table: ConfigurationTable) -> HandedServer | None:
    """Return the supervisor's state by value; None in a phase that soon is another one."""
    phase = state.phase
    rejected = state.rejected
    handed = HandedServer(
        "down",
        want=table.place(state.want),
        good=table.place(state.good),
        rejected=table.place(rejected.configuration) if rejected is not None else None,
        rejected_why=rejected.why if rejected is not None else None,
        rejected_at=rejected.at if rejected is not None else 0.0,
        spawned=state.spawned,
        asleep=state.asleep,
        failures=state.failures,
        quick=state.quick,
        starts=state.starts,
        short_lives=state.short_lives,
        short_since=state.short_since,
        last=state.last,
        endings=state.endings,
    )
    match phase:
        case st.Down():
            return handed
        case st.Idle():
            return replace(handed, phase="idle")
        case st.Ready(child, since, loaded_s):
            place = table.place(child.configuration)
            return replace(
                handed,
                phase="ready",
                configuration=place,
                number=child.number,
                since=since,
                loaded_s=loaded_s,
            )
        case st.Backoff(configuration, until):
            return replace(handed, phase="backoff", configuration=table.place(configuration), until=until)
        case st.Failed(configuration):
            return replace(handed, phase="failed", configuration=table.place(configuration))
        case _:
            return None


def state_of(handover: Handover) -> st.State:
    """Return the supervisor's state that a document tells."""
    server, at = handover.server, handover.at
    one, rejected = at(server.configuration), at(server.rejected)
    phase: st.Phase = st.Down()
    if server.phase == "idle":
        phase = st.Idle()
    elif server.phase == "ready" and one is not None:
        phase = st.Ready(st.Child(server.number, one), server.since, server.loaded_s)
    elif server.phase == "backoff" and one is not None:
        phase = st.Backoff(one, server.until)
    elif server.phase == "failed" and one is not None:
        phase = st.Failed(one)
    why = server.rejected_why
    return st.State(
        want=at(server.want),
        phase=phase,
        spawned=server.spawned,
        good=at(server.good),
        rejected=st.Rejection(rejected, why, server.rejected_at) if rejected and why else None,
        asleep=server.asleep,
        failures=server.failures,
        quick=server.quick,
        starts=server.starts,
        short_lives=server.short_lives,
        short_since=server.short_since,
        last=server.last,
        endings=server.endings,
    )


def change_of(state: change.ChangeState, table: ConfigurationTable) -> HandedChange | None:
    """Return the state of the wishes by value; None while one is on its way, or at the daemon's end."""
    resting = isinstance(state.stage, change.Rest) and state.transfer is None and not state.waiting
    resting = resting and not state.closed
    if not resting or state.planning is not None or state.trial is not None or state.number == 0:
        return None
    handed = HandedChange(
        state.number, state.origin, table.place(state.kept), state.kept_number, state.config_error
    )
    if (refused := state.refused) is None:
        return handed
    wish, why = refused.wish, refused.why
    return replace(
        handed,
        refused_number=wish.number,
        refused_origin=wish.origin,
        refused_overrides=None if wish.overrides is None else dict(wish.overrides),
        refused_instead_of=table.place(wish.instead_of),
        refused_why=why if isinstance(why.data, dict | None) else replace(why, data=None),
        rolled_back=refused.rolled_back,
    )


def wishes_of(handover: Handover) -> change.ChangeState:
    """Return the state of the wishes that a document tells."""
    handed, at = handover.change, handover.at
    refused = None
    if handed.refused_number is not None and handed.refused_why is not None:
        wish = change.Wish(
            handed.refused_number,
            handed.refused_origin,
            handed.refused_overrides,
            at(handed.refused_instead_of),
        )
        refused = change.Refused(wish, handed.refused_why, handed.rolled_back)
    return change.ChangeState(
        number=handed.number,
        origin=handed.origin,
        kept=at(handed.kept),
        kept_number=handed.kept_number,
        refused=refused,
        config_error=handed.config_error,
    )
