"""Show what ``up`` is waiting for: a spinner and a bar on a terminal, a line a change elsewhere."""

from types import TracebackType
from typing import TYPE_CHECKING

from qwenctl.cli.output import Session

if TYPE_CHECKING:
    from rich.status import Status as Spinner

WORDS = {
    "planning": "planning",
    "fetching": "fetching the model",
    "starting": "loading the model",
    "stopping": "stopping the old server",
    "backoff": "waiting before the next try",
}


class Watch:
    """Called with each status while waiting."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said: str | None = None
        self._spinner: Spinner | None = None

    def __enter__(self) -> "Watch":
        if self._session.drawing:
            from rich.console import Console

            self._spinner = Console(stderr=True).status("waiting")
            self._spinner.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._spinner is not None:
            self._spinner.stop()

    def __call__(self, status: dict[str, object]) -> None:
        """Take the newest status."""
        text = WORDS.get(str(status.get("phase")))
        if text is None or text == self._said:
            return
        self._said = text
        if self._spinner is not None:
            self._spinner.update(text)
        else:
            self._session.say(text)
