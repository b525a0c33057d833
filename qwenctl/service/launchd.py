"""Install and control a job of launchd. Knows what launchctl's exit codes mean.

Not run on macOS yet. The order of the calls and the meaning of the exit codes are tested, the calls are not.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from qwenctl.errors import ControlError
from qwenctl.service import installed_files
from qwenctl.service.command import Ran, Run
from qwenctl.service.places import NAME, Places

TRIES = 20
PAUSE_S = 0.5
"""The old job may need its ExitTimeOut to end. launchd answers 5 or 36 until then."""


class LaunchctlAnswer(Enum):
    """What an exit code of launchctl means."""

    DONE = "done"
    ALREADY = "already so"
    LATER = "ask again"
    ABSENT = "no such job"
    NO_SESSION = "nobody is logged in"
    DISABLED = "disabled by hand"
    FAILED = "failed"


MEANING = {
    ("bootstrap", 5): LaunchctlAnswer.LATER,  # the old job is still ending
    ("bootstrap", 17): LaunchctlAnswer.ALREADY,
    ("bootstrap", 37): LaunchctlAnswer.ALREADY,
    ("bootstrap", 119): LaunchctlAnswer.DISABLED,
    ("bootstrap", 125): LaunchctlAnswer.NO_SESSION,
    ("bootout", 3): LaunchctlAnswer.ABSENT,
    ("bootout", 5): LaunchctlAnswer.ABSENT,  # newer systems, if no job is loaded
    ("bootout", 36): LaunchctlAnswer.LATER,
    ("bootout", 113): LaunchctlAnswer.ABSENT,
    ("kickstart", 3): LaunchctlAnswer.ABSENT,
    ("kickstart", 37): LaunchctlAnswer.ALREADY,
    ("kickstart", 113): LaunchctlAnswer.ABSENT,
    ("print", 113): LaunchctlAnswer.ABSENT,
}
"""Source: launchctl's own messages, and reports of its users: openclaw #136453 (bootstrap 5 right after
bootout; trying again helps), jdx/mise #10965 (bootout 5 if no job is loaded)."""


def meaning(verb: str, code: int) -> LaunchctlAnswer:
    """Return what launchctl's exit code means for that verb."""
    return LaunchctlAnswer.DONE if code == 0 else MEANING.get((verb, code), LaunchctlAnswer.FAILED)


@dataclass(frozen=True, slots=True)
class Launchd:
    """The launchd of one scope. ``run`` runs launchctl; ``pause`` waits between two tries."""

    places: Places
    run: Run
    pause: Callable[[float], None] = time.sleep

    def install(self, service: str, socket: str | None, *, start: bool) -> list[str]:
        """Install or update the job, and load it. Return the changes.

        Raises:
            ControlError: launchd refuses.
        """
        del socket
        changes = installed_files.write(self.places.service, service)
        loaded = self._loaded()
        if changes and loaded:
            self._boot_out()
            loaded = False
        if start and not loaded:
            self._bootstrap()
            changes.append(f"started {NAME}")
        return changes

    def write(self, service: str, socket: str | None) -> list[str]:
        """Install or update the job's file. What runs goes on, and gets what it says at its next start."""
        del socket
        return installed_files.write(self.places.service, service)

    def uninstall(self) -> list[str]:
        """Unload and remove the job. Return the changes.

        Raises:
            ControlError: launchd refuses.
        """
        if not self.places.service.exists():
            return []
        changes = [f"stopped {NAME}"] if self._boot_out() else []
        return changes + installed_files.remove(self.places.service)

    def start(self) -> None:
        """Load the job, or start it if it is loaded already.

        Raises:
            ControlError: launchd refuses.
        """
        if not self._loaded():
            self._bootstrap()
        else:
            self._ask("kickstart", self._target)

    def stop(self) -> bool:
        """Unload the job, so that it stays stopped until the next start; return whether it was loaded.

        Raises:
            ControlError: launchd refuses.
        """
        return self._boot_out()

    def restart(self) -> None:
        """Stop the job and start it again.

        Raises:
            ControlError: launchd refuses.
        """
        if self._loaded():
            self._ask("kickstart", "-k", self._target)
        else:
            self._bootstrap()

    def look(self) -> dict[str, str]:
        """Return the job's properties: the ``name = value`` lines of ``launchctl print``."""
        result = self._launchctl("print", self._target)
        pairs = (line.strip().partition(" = ") for line in result.out.splitlines())
        return {name: value for name, separator, value in pairs if separator}

    def listening(self) -> None:
        """Return None: launchd does not listen for us."""

    # How it is done.

    @property
    def _domain(self) -> str:
        return "system" if self.places.scope == "system" else f"gui/{os.getuid()}"

    @property
    def _target(self) -> str:
        return f"{self._domain}/{NAME}"

    def _loaded(self) -> bool:
        return self._launchctl("print", self._target).code == 0

    def _bootstrap(self) -> None:
        for _ in range(TRIES):
            result = self._launchctl("bootstrap", self._domain, str(self.places.service))
            match meaning("bootstrap", result.code):
                case LaunchctlAnswer.DONE | LaunchctlAnswer.ALREADY:
                    return
                case LaunchctlAnswer.LATER if not self._loaded():
                    self.pause(PAUSE_S)
                case LaunchctlAnswer.LATER:
                    return
                case LaunchctlAnswer.DISABLED:
                    self._ask("enable", self._target)
                case answer:
                    raise _refused("bootstrap", answer, result)
        raise ControlError(
            f"cannot start {NAME}: launchd did not load it within {TRIES * PAUSE_S:.0f} s",
            hint=f"launchctl print {self._target} shows its state",
        )

    def _boot_out(self) -> bool:
        result = self._launchctl("bootout", self._target)
        match meaning("bootout", result.code):
            case LaunchctlAnswer.ABSENT:
                return False
            case LaunchctlAnswer.DONE | LaunchctlAnswer.LATER:
                self._wait_until_gone()
                return True
            case answer:
                raise _refused("bootout", answer, result)

    def _wait_until_gone(self) -> None:
        for _ in range(TRIES * 10):  # ExitTimeOut is 90 s
            if not self._loaded():
                return
            self.pause(PAUSE_S)
        raise ControlError(
            f"cannot stop {NAME}: launchd did not unload it", hint=f"launchctl print {self._target}"
        )

    def _ask(self, verb: str, *words: str) -> None:
        result = self._launchctl(verb, *words)
        answer = meaning(verb, result.code)
        if answer not in (LaunchctlAnswer.DONE, LaunchctlAnswer.ALREADY):
            raise _refused(verb, answer, result)

    def _launchctl(self, *words: str) -> Ran:
        return self.run(("launchctl", *words))


def _refused(verb: str, answer: LaunchctlAnswer, result: Ran) -> ControlError:
    hint = None
    if answer is LaunchctlAnswer.NO_SESSION:
        hint = "log in at the screen, or install the system service: sudo qwenctl service install --system"
    output = (result.err or result.out).splitlines()
    cause = output[0].lower() if output else f"exit code {result.code}"
    return ControlError(f"cannot {verb} {NAME}: {cause}", hint=hint)
