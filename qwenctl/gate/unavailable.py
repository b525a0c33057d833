"""What the gate answers by itself while the child is away. Pure: no I/O."""

import json

from qwenctl.gate.upstream import UpstreamState


def health(standing: UpstreamState) -> tuple[int, bytes]:
    """Return status and body of ``/health``. An idle model is healthy: the next request wakes it."""
    told: dict[str, object] = {"phase": standing.phase, "progress": standing.progress}
    if standing.phase == "idle":
        return 200, json.dumps({"status": "ok"} | told).encode()
    error = {"code": 503, "message": sentence(standing), "type": "unavailable_error", "hint": standing.hint}
    return 503, json.dumps({"status": standing.phase, "error": error} | told).encode()


def models(standing: UpstreamState) -> bytes:
    """Return the body of ``/v1/models``: the one name that clients know."""
    model = {"id": standing.alias, "object": "model", "owned_by": "qwenctl", "created": 0}
    return json.dumps({"object": "list", "data": [model]}).encode()


def sentence(standing: UpstreamState) -> str:
    """Return why there is no answer now."""
    if standing.phase == "failed":
        return f"cannot answer: the model server failed: {standing.cause or 'unknown cause'}"
    progress = f", {standing.progress}" if standing.progress else ""
    return f"cannot answer now: the model server is {standing.phase}{progress}"
