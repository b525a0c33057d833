"""Keep the machine from sleeping while there is something to do, as ``[server] keep_awake`` says.

Only sleep that comes by itself is kept off: closing the lid of a laptop, or asking for sleep, still ends the
day.
"""

import sys
from collections.abc import Callable

from qwenctl.deploy import states as change
from qwenctl.errors import ControlError
from qwenctl.service import command

FETCHES, SERVES = "fetching a model", "serving a model"
READS_ITS_INPUT = "cat"
"""It ends when we close its input, and when we end in whatever way."""


def why_awake(deploy: change.ChangeState, *, downloading: bool) -> str | None:
    """Return why the machine must not sleep now, None if it may. Pure.

    Another program may have the whole file already, and then nothing is downloaded.
    """
    stage = deploy.stage
    on_trial = deploy.trial.configuration if deploy.trial is not None else None
    for one in (on_trial, deploy.kept):
        if one is not None and one.settings.server.keep_awake == "serving":
            return SERVES
    match stage:
        case change.Fetching(draft=draft) if downloading:
            return None if draft.resolved.settings.server.keep_awake == "never" else FETCHES
        case _:
            return None


def words(why: str, system: str = sys.platform) -> tuple[str, ...]:
    """Return the program that keeps this system awake while it runs.

    Source: caffeinate(8), -i: no idle sleep, on behalf of the program after it. systemd.io, "Inhibitor
    Locks": "idle" is for sleep that comes by itself. "sleep" would refuse one that the user asks for, too. A
    desktop that has a clock of its own, and does not look at these locks, sleeps as ever.
    """
    if system == "darwin":
        return ("caffeinate", "-i", READS_ITS_INPUT)
    lock = ("--what=idle", "--who=qwenctl", f"--why={why}", "--mode=block")
    return ("systemd-inhibit", *lock, READS_ITS_INPUT)


class Awake:
    """Keeps the machine awake from one ``update`` with a reason to the next without one.

    Where there is no such program, or the user may not, the machine sleeps as ever: that is no error.
    """

    def __init__(self, hold: Callable[[tuple[str, ...]], command.Held] = command.hold) -> None:
        self._hold = hold
        self._held: command.Held | None = None
        self._why: str | None = None
        self._leaving: list[command.Held] = []

    def update(self, why: str | None) -> None:
        """Keep the machine awake for this reason, or for none any more."""
        self._leaving = [one for one in self._leaving if not one.ended()]
        if why == self._why:
            return
        self.close()
        self._why = why
        if why is not None:
            try:
                self._held = self._hold(words(why))
            except ControlError:
                self._held = None

    def close(self, wait_s: float = 0.0) -> None:
        """Let the machine sleep, until the next ``update``. Wait that long for the program's end at most."""
        self._why = None
        if self._held is not None:
            self._held.release(wait_s)
            self._leaving.append(self._held)
            self._held = None
