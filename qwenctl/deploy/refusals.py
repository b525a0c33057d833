"""Turn an error into the refusal of a wish. Pure: no I/O."""

from qwenctl.deploy.states import Refusal
from qwenctl.errors import FetchError, QwenctlError
from qwenctl.files import reason


def refusal_of(error: QwenctlError | OSError) -> Refusal:
    """Return why a wish is refused.

    A fault of the system is a refusal, too: a file vanished, or descriptors or memory ran out. Only what the
    hub or the network refused passes by itself.
    """
    if isinstance(error, QwenctlError):
        passing = isinstance(error, FetchError)
        return Refusal(error.code, error.message, error.hint, passing=passing, data=error.data)
    what = f"{error.filename}: " if error.filename else ""
    return Refusal("failed", f"cannot prepare: {what}{reason(error)}")
