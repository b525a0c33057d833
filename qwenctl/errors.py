"""Every error that qwenctl raises on purpose, with its exit code. Pure: no I/O.

    QwenctlError                 1  failed
    ├── SettingsError            2  usage, settings
    ├── ProfileError             2
    ├── DetectionError           1
    ├── NoFitError               4  no_fit
    ├── FetchError               6  fetch
    │   └── ModelFileError       6
    ├── LaunchError              1
    │   ├── NoServerError        5  no_server
    │   │   └── CardAwayError    5
    │   └── NotReadyError        7  not_ready
    ├── ClientError              1
    │   ├── RefusedError         1
    │   ├── SandboxError         1
    │   └── BrokenOffError       1
    └── ControlError             1
        ├── NotRunningError      3  not_running
        └── AlreadyRunningError  1

Messages read "cannot <verb> <thing>: <cause>", lower case, with the path or the number.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes. The name in lower case is the ``code`` in the JSON envelope."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NO_FIT = 4
    NO_SERVER = 5
    FETCH = 6
    NOT_READY = 7
    BUG = 70


class QwenctlError(Exception):
    """A request cannot be carried out. ``hint`` says what would help."""

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.data: object = None  # partial results, for the JSON envelope

    @classmethod
    def from_code(
        cls, code: str, message: str, hint: str | None = None, data: object = None
    ) -> "QwenctlError":
        """Return the error that was put into these words elsewhere, with the exit code of its ``code``."""
        error = cls(message, hint)
        codes = {known.name.lower(): known for known in ExitCode}
        error.exit_code = codes.get(code, ExitCode.FAILED)
        error.data = data
        return error

    @property
    def code(self) -> str:
        """The ``code`` in the JSON envelope."""
        return self.exit_code.name.lower()


class SettingsError(QwenctlError):
    """A setting or an argument is unknown or invalid."""

    exit_code = ExitCode.USAGE


class ProfileError(QwenctlError):
    """A profile is unknown, unreadable or inconsistent."""

    exit_code = ExitCode.USAGE


class DetectionError(QwenctlError):
    """The machine could not be read, or a hardware file is invalid."""


class NoFitError(QwenctlError):
    """Nothing in the profile fits this machine."""

    exit_code = ExitCode.NO_FIT


class FetchError(QwenctlError):
    """The hub, the network, a checksum or the disk failed."""

    exit_code = ExitCode.FETCH


class ModelFileError(FetchError):
    """A named file is missing, or no model that can be served. Waiting does not help."""


class LaunchError(QwenctlError):
    """The server could not be started as planned."""


class NoServerError(LaunchError):
    """No usable llama-server binary was found."""

    exit_code = ExitCode.NO_SERVER


class CardAwayError(NoServerError):
    """A card of this machine, or of another one that it uses, does not answer now. Waiting can help."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.data = {"away": True}


class NotReadyError(LaunchError):
    """The server was started but generated no token in time, or is parked as failed."""

    exit_code = ExitCode.NOT_READY


class ClientError(QwenctlError):
    """An endpoint could not be reached, or its answer is malformed."""


class RefusedError(ClientError):
    """An endpoint answered with an error. ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.status = status


class SandboxError(ClientError):
    """Generated code could not be run where it can do no harm."""


class BrokenOffError(ClientError):
    """An answer was cut off: the server died, or was restarted."""


class ControlError(QwenctlError):
    """The daemon could not be reached, or refused the request."""


class NotRunningError(ControlError):
    """No daemon runs in this state folder."""

    exit_code = ExitCode.NOT_RUNNING


class AlreadyRunningError(ControlError):
    """Another daemon holds this state folder."""
