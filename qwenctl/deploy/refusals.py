"""Turn an error into the refusal of a wish, and back."""

from collections.abc import Iterable

from qwenctl.deploy.states import Refusal
from qwenctl.errors import CardAwayError, FetchError, ModelFileError, QwenctlError
from qwenctl.files import reason
from qwenctl.plan.outcome import MemoryRefusal


def refusal_of(error: QwenctlError | OSError) -> Refusal:
    """Return why a wish is refused.

    A fault of the system is a refusal, too: a file vanished, or descriptors or memory ran out. Only what the
    hub, the network or the driver of a card refused passes by itself.
    """
    if isinstance(error, QwenctlError):
        passing = isinstance(error, (FetchError, CardAwayError)) and not isinstance(error, ModelFileError)
        return Refusal(error.code, error.message, error.hint, passing=passing, data=error.data)
    what = f"{error.filename}: " if error.filename else ""
    return Refusal("failed", f"cannot prepare: {what}{reason(error)}")


def refusal_of_bug(description: str) -> Refusal:
    """Return the refusal of a wish that met an unexpected error."""
    return Refusal("bug", f"cannot go on: {description}", hint="this is a bug in qwenctl")


def error_of(why: Refusal) -> QwenctlError:
    """Return a refusal as the error it was."""
    return QwenctlError.from_code(why.code, why.message, why.hint, why.data)


def describe_refused_memory(refused: Iterable[MemoryRefusal]) -> str | None:
    """Return which plans are given up because memory ran out before; None if there are none."""
    plans = "; ".join(sorted({one.plan for one in refused}))
    return f"memory ran out before with {plans} (qwenctl up --forget tries again)" if plans else None
