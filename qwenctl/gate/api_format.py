"""Know the API of a path: its error bodies, its error events, and how its streams end. Pure: no I/O.

Source of the formats: OpenAI API reference (chat, completions, responses), Anthropic Messages streaming.
What llama-server b11434 sends was measured.
"""

import json
from enum import Enum, auto


class ApiFormat(Enum):
    """Which API a path belongs to."""

    OPENAI = auto()
    RESPONSES = auto()
    ANTHROPIC = auto()
    NATIVE = auto()
    OTHER = auto()


FORMATS = {
    "/v1/chat/completions": ApiFormat.OPENAI,
    "/chat/completions": ApiFormat.OPENAI,
    "/v1/completions": ApiFormat.OPENAI,
    "/v1/responses": ApiFormat.RESPONSES,
    "/responses": ApiFormat.RESPONSES,
    "/v1/messages": ApiFormat.ANTHROPIC,
    "/completion": ApiFormat.NATIVE,
    "/completions": ApiFormat.NATIVE,
    "/infill": ApiFormat.NATIVE,
}
STREAM_ENDS: dict[ApiFormat, tuple[bytes, ...]] = {
    ApiFormat.OPENAI: (b"data: [DONE]", b'data: {"error"'),
    ApiFormat.RESPONSES: (
        b"event: response.completed",
        b"event: response.failed",
        b"event: response.incomplete",
        b"event: error",
        b'data: {"error"',
    ),
    ApiFormat.ANTHROPIC: (b"event: message_stop", b"event: error", b'data: {"error"'),
    ApiFormat.NATIVE: (b'"stop":true', b"data: [DONE]", b'data: {"error"'),
}
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}
OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 503: "unavailable_error"}


def format_of(path: str) -> ApiFormat:
    """Return the API that ``path`` belongs to."""
    if path.startswith("/v1/messages"):
        return ApiFormat.ANTHROPIC
    return FORMATS.get(path, ApiFormat.OTHER)


def is_complete(api_format: ApiFormat, tail: bytes) -> bool:
    """Return whether the events in ``tail`` end a stream. A stream of an unknown API may end anywhere."""
    ends = STREAM_ENDS.get(api_format)
    if ends is None:
        return True
    return any(tail.startswith(end) or b"\n" + end in tail or b"," + end in tail for end in ends)


def error_body(api_format: ApiFormat, status: int, code: str, message: str, hint: str | None = None) -> bytes:
    """Return the body of an error answer."""
    return json.dumps(_error(api_format, status, code, message, hint), ensure_ascii=False).encode()


def error_event(api_format: ApiFormat, status: int, code: str, message: str) -> bytes:
    """Return the event that ends a stream which can't go on."""
    content = _error(api_format, status, code, message, None)
    if api_format is ApiFormat.RESPONSES:
        flat = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        content = flat | content  # the reference has the fields flat, OpenAI's client looks for "error"
    name = "event: error\n" if api_format in (ApiFormat.ANTHROPIC, ApiFormat.RESPONSES) else ""
    return f"{name}data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()


def passed_on_error(api_format: ApiFormat, status: int, body: bytes) -> bytes:
    """Return the child's own error body as the event that ends a stream whose head has left."""
    message = body[:2000].decode("utf-8", "replace")
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        message = error["message"]
    return error_event(api_format, status, "upstream_error", message)


def is_loading(status: int, body: bytes) -> bool:
    """Return whether the child says that it still loads. Its own 503 of another meaning is an answer.

    Source: llama-server b11434, which refuses every request so until its model is loaded.
    """
    if status != 503:
        return False
    try:
        content = json.loads(body)
    except ValueError:
        return False
    error = content.get("error") if isinstance(content, dict) else None
    return isinstance(error, dict) and error.get("message") == "Loading model"


def wants_stream(body: bytes) -> bool:
    """Return whether a request asks for a stream."""
    if b'"stream"' not in body:
        return False
    try:
        content = json.loads(body)
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("stream") is True


def _error(
    api_format: ApiFormat, status: int, code: str, message: str, hint: str | None
) -> dict[str, object]:
    error: dict[str, object]
    if api_format is ApiFormat.ANTHROPIC:
        text = f"{message} ({hint})" if hint else message
        error = {"type": ANTHROPIC_TYPES.get(status, "api_error"), "message": text}
        return {"type": "error", "error": error}
    kind = OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": None, "code": code}
    return {"error": error | ({"hint": hint} if hint else {})}
