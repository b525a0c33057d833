"""The texts and bodies that the gate answers by itself while the child is away. Pure: no I/O."""

import json

from qwenctl.gate.upstream import UpstreamState


def health(state: UpstreamState) -> tuple[int, bytes]:
    """Return status and body of ``/health``. An idle model is healthy: the next request wakes it."""
    facts: dict[str, object] = {"phase": state.phase, "progress": state.progress}
    if state.phase == "idle":
        return 200, json.dumps({"status": "ok"} | facts).encode()
    error = {"code": 503, "message": sentence(state), "type": "unavailable_error", "hint": state.hint}
    return 503, json.dumps({"status": state.phase, "error": error} | facts).encode()


def models(state: UpstreamState) -> bytes:
    """Return the body of ``/v1/models``: the one name that clients know."""
    model = {"id": state.alias, "object": "model", "owned_by": "qwenctl", "created": 0}
    return json.dumps({"object": "list", "data": [model]}).encode()


def sentence(state: UpstreamState) -> str:
    """Return why there is no answer now."""
    if state.phase == "failed":
        return f"cannot answer: the model server failed: {state.cause or 'unknown cause'}"
    if state.phase == "ready":
        return "cannot answer now: the model server accepts no connections"
    progress = f", {state.progress}" if state.progress else ""
    return f"cannot answer now: the model server is {state.phase}{progress}"


def error_code(state: UpstreamState) -> str:
    """Return the code of the error that a refused client gets."""
    return "failed" if state.phase == "failed" else "unavailable"


def retry_after_s(state: UpstreamState) -> int:
    """Return the seconds that a refused client is told to wait. A download takes longer than a start."""
    return 30 if state.phase in ("planning", "fetching") else 5
