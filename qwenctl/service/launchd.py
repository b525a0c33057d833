"""Install and control a job of launchd. Knows what launchctl's exit codes mean.

Not run on macOS yet: tests/darwin has a launchd of its own.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from qwenctl.errors import ControlError
from qwenctl.service import installed_files, launchctl_print, service_folders, service_state
from qwenctl.service.command import Ran, Run
from qwenctl.service.launchctl_print import PrintedJob
from qwenctl.service.places import NAME, Places, owner_id
from qwenctl.service.service_state import ServiceState

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
    FAILED = "failed"


MEANING = {
    ("bootstrap", 5): LaunchctlAnswer.LATER,  # the old job is still ending
    ("bootstrap", 17): LaunchctlAnswer.ALREADY,
    ("bootstrap", 37): LaunchctlAnswer.ALREADY,
    ("bootstrap", 112): LaunchctlAnswer.NO_SESSION,
    ("bootstrap", 125): LaunchctlAnswer.NO_SESSION,
    ("bootout", 3): LaunchctlAnswer.ABSENT,
    ("bootout", 5): LaunchctlAnswer.ABSENT,  # newer systems, if no job is loaded
    ("bootout", 36): LaunchctlAnswer.LATER,
    ("bootout", 112): LaunchctlAnswer.ABSENT,  # there is no such domain: nobody is logged in
    ("bootout", 113): LaunchctlAnswer.ABSENT,
    ("bootout", 125): LaunchctlAnswer.ABSENT,  # likewise
    ("kickstart", 3): LaunchctlAnswer.ABSENT,
    ("kickstart", 37): LaunchctlAnswer.ALREADY,
    ("kickstart", 113): LaunchctlAnswer.ABSENT,
    ("print", 113): LaunchctlAnswer.ABSENT,
}
"""Source: launchctl's own messages, and reports of its users: openclaw #136453 (bootstrap 5 right after
bootout; trying again helps), jdx/mise #10965 (bootout 5 if no job is loaded). 112 and 113 are ENODOMAIN and
ENOSERVICE of launchctl's source. A disabled label is no case: it is enabled before each bootstrap."""


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
        """Install or update the job, load it, and start it if it does not run. Return the changes.

        What launchd opens for the job must be there before: a log that it cannot open is EX_CONFIG. A file
        that launchd does not take is removed again: with it in place, ``up`` would go through the service.

        Raises:
            ControlError: launchd refuses.
        """
        del socket
        self._check_allowed("install")
        service_folders.make(self.places)
        new = not self.places.service.exists()
        changes = installed_files.write(self.places.service, service)
        job = self._job()
        if changes and job.fields:
            self._boot_out()
            job = PrintedJob()
        if start and job.fields and job.pid is None:  # told to end, or waiting for its next try
            self._ask("kickstart", self._target)
            changes.append(f"started {NAME}")
        elif start and not job.fields:
            try:
                self._bootstrap(kept=not new)
            except ControlError:
                if new:
                    installed_files.remove(self.places.service)
                raise
            changes.append(f"started {NAME}")
        return changes

    def write(self, service: str, socket: str | None) -> list[str]:
        """Install or update the job's file. What runs goes on, and gets what it says at its next start."""
        del socket
        service_folders.make(self.places)
        return installed_files.write(self.places.service, service)

    def uninstall(self) -> list[str]:
        """Unload and remove the job. Return the changes.

        Raises:
            ControlError: launchd refuses.
        """
        if not self.places.service.exists():
            return []
        self._check_allowed("uninstall")
        changes = [f"stopped {NAME}"] if self._boot_out() else []
        return changes + installed_files.remove(self.places.service)

    def start(self) -> None:
        """Load the job, or start it if it is loaded already.

        Raises:
            ControlError: launchd refuses.
        """
        self._check_allowed("start")
        if not self._loaded():
            self._bootstrap()
        else:
            self._ask("kickstart", self._target)

    def stop(self) -> bool:
        """Unload the job, so that it stays stopped until the next start; return whether it was loaded.

        Raises:
            ControlError: launchd refuses.
        """
        if not self._loaded():
            return False
        self._check_allowed("stop")
        return self._boot_out()

    def restart(self) -> None:
        """Stop the job and start it again.

        Raises:
            ControlError: launchd refuses.
        """
        self._check_allowed("restart")
        if self._loaded():
            self._ask("kickstart", "-k", self._target)
        else:
            self._bootstrap()

    def look(self) -> ServiceState:
        """Return the job's state, as ``launchctl print`` shows it."""
        return service_state.of_job(self._job())

    def listening(self) -> None:
        """Return None: launchd does not listen for us."""

    # How it is done.

    @property
    def _domain(self) -> str:
        """The domain of the job. Homebrew loads its job into ``user/UID`` if it is told to by ssh.

        Source: Homebrew, Library/Homebrew/services/system.rb, domain_target.
        """
        if self.places.scope == "system":
            return "system"
        session, background = f"gui/{owner_id()}", f"user/{owner_id()}"
        if self.places.of_homebrew:
            loaded = self._launchctl("print", f"{background}/{self.places.label}").code == 0
            return background if loaded else session
        return session

    @property
    def _target(self) -> str:
        return f"{self._domain}/{self.places.label}"

    def _check_allowed(self, verb: str) -> None:
        """Check that this user may change the job. Everybody may look at it."""
        if self.places.scope == "system" and os.geteuid() != 0:
            raise ControlError(
                f"cannot {verb} {NAME}: it is a service of the machine ({self.places.service})",
                hint="only root can: use sudo",
            )
        if verb == "install" and self.places.scope == "user" and os.geteuid() == 0 != owner_id():
            raise ControlError(
                f"cannot install {NAME}: root cannot install the service of another user",
                hint="leave out sudo; or make it one of the machine: sudo qwenctl service install --system",
            )

    def _job(self) -> PrintedJob:
        return launchctl_print.parse(self._launchctl("print", self._target).out)

    def _loaded(self) -> bool:
        return self._launchctl("print", self._target).code == 0

    def _bootstrap(self, *, kept: bool = True) -> None:
        """Load the job, and start it: RunAtLoad alone leaves some at "never exited", with no process.

        ``kept``: whether the file stays where launchd does not take it.

        ``enable`` goes before, as in Homebrew: a label that was disabled by hand is refused with code 5.

        Source: memory-cat #10, ODS #1358 and openbase #15 for the first, openclaw #849 for the second.
        """
        domain = self._domain
        target = f"{domain}/{self.places.label}"
        self._launchctl("enable", target)
        for _ in range(TRIES):
            result = self._launchctl("bootstrap", domain, str(self.places.service))
            match meaning("bootstrap", result.code):
                case LaunchctlAnswer.DONE | LaunchctlAnswer.ALREADY:
                    self._launchctl("kickstart", target)
                    return
                case LaunchctlAnswer.LATER if self._launchctl("print", domain).code != 0:
                    raise _no_session(result, exists=False, kept=kept)
                case LaunchctlAnswer.LATER if not self._loaded():
                    self.pause(PAUSE_S)
                case LaunchctlAnswer.LATER:
                    self._launchctl("kickstart", target)
                    return
                case LaunchctlAnswer.NO_SESSION:
                    exists = self._launchctl("print", domain).code == 0
                    raise _no_session(result, exists=exists, kept=kept)
                case _:
                    raise _refused("bootstrap", result)
        raise ControlError(
            f"cannot start {NAME}: launchd did not load it within {TRIES * PAUSE_S:.0f} s",
            hint=f"launchctl print {target} shows its state",
        )

    def _boot_out(self) -> bool:
        result = self._launchctl("bootout", self._target)
        match meaning("bootout", result.code):
            case LaunchctlAnswer.ABSENT:
                return False
            case LaunchctlAnswer.DONE | LaunchctlAnswer.LATER:
                self._wait_until_gone()
                return True
            case _:
                raise _refused("bootout", result)

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
        if meaning(verb, result.code) not in (LaunchctlAnswer.DONE, LaunchctlAnswer.ALREADY):
            raise _refused(verb, result)

    def _launchctl(self, *words: str) -> Ran:
        return self.run(("launchctl", *words))


def _refused(verb: str, result: Ran, hint: str | None = None) -> ControlError:
    output = (result.err or result.out).splitlines()
    cause = output[0].lower() if output else f"exit code {result.code}"
    return ControlError(f"cannot {verb} {NAME}: {cause}", hint=hint)


def _no_session(result: Ran, *, exists: bool, kept: bool) -> ControlError:
    """Return the error of a user without a session, or with one that takes no job in the background."""
    if exists:
        return _refused(
            "bootstrap",
            result,
            "allow it in System Settings, General, Login Items & Extensions, then install again",
        )
    error = ControlError(
        f"cannot start {NAME}: nobody is logged in at the screen, and a user's service lives in that session",
        hint="log in there first, or install the system service: sudo qwenctl service install --system; "
        f"{'after qwenctl service uninstall' if kept else 'without a service'} qwenctl up works here, too",
    )
    error.__cause__ = _refused("bootstrap", result)
    return error
