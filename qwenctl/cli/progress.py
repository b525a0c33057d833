"""Show what ``up`` is waiting for: a spinner, the daemon's download as a bar; elsewhere a line a change."""

from types import TracebackType
from typing import TYPE_CHECKING

from qwenctl.cli.bar import Moved, ProgressBar
from qwenctl.cli.output import Session

if TYPE_CHECKING:
    from rich.status import Status as Spinner

WORDS = {
    "planning": "planning",
    "starting": "loading the model",
    "restoring": "restoring the conversations",
    "draining": "waiting for answers under way",
    "stopping": "stopping the old server",
    "backoff": "waiting before the next try",
}


def _why(status: dict[str, object]) -> str:
    """Return who holds the memory that a start waits for: only a person can end them."""
    last = status.get("last_ending")
    if status.get("phase") != "backoff" or not isinstance(last, dict) or last.get("cause") != "memory_busy":
        return ""
    return f": {last.get('summary')}"


class ProgressView:
    """Called with each status while waiting."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said: str | None = None
        self._spinner: Spinner | None = None
        self._bar: ProgressBar | None = None

    def __enter__(self) -> "ProgressView":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, status: dict[str, object]) -> None:
        """Take the newest status."""
        download = status.get("download")
        if isinstance(download, dict):
            self._transfer(Moved(**{name: download[name] for name in Moved._fields if name in download}))
            return
        text = WORDS.get(str(status.get("phase")))
        if text == WORDS["planning"] and not self._session.drawing:
            return  # it takes a moment; only a spinner is worth it
        if text is not None and text != self._said:
            self._said = text
            self._spin(f"{text}{_why(status)}")

    def _transfer(self, moved: Moved) -> None:
        if self._bar is None:
            self._stop()
            self._bar = ProgressBar(self._session)
        self._bar(moved)

    def _spin(self, text: str) -> None:
        if not self._session.drawing:
            self._session.say(text)
            return
        if self._spinner is None:
            from rich.console import Console

            self._stop()
            self._spinner = Console(stderr=True).status(text)
            self._spinner.start()
        self._spinner.update(text)

    def _stop(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
        self._spinner = self._bar = None
