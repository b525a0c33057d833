"""Talk to the daemon over its socket. Used by the commands."""

import ssl
from pathlib import Path

import httpx

from qwenctl.control.state_dir import CONTROL_SOCKET
from qwenctl.errors import ControlError, QwenctlError

TIMEOUT_S = 10.0
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A Unix socket speaks no TLS; loading the usual certificates takes 20 ms or more."""


def call(folder: Path, method: str, path: str, body: object = None, timeout_s: float = TIMEOUT_S) -> object:
    """Send one request and return the JSON answer.

    Raises:
        ControlError: the daemon cannot be reached.
        QwenctlError: it refused; carries its message, hint and exit code.
    """
    transport = httpx.HTTPTransport(uds=str(folder / CONTROL_SOCKET), verify=NO_CERTIFICATES)
    try:
        with httpx.Client(transport=transport, timeout=timeout_s, trust_env=False) as client:
            answer = client.request(method, f"http://qwenctl{path}", json=body)
        data: object = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ControlError(
            f"cannot reach the daemon on {folder / CONTROL_SOCKET}: {error}",
            hint="qwenctl logs --daemon shows its log",
        ) from error
    if answer.is_success:
        return data
    raise refusal(data)


def refusal(data: object) -> QwenctlError:
    """Return the daemon's error answer as the error that was raised there."""
    envelope = data if isinstance(data, dict) else {}
    error = envelope.get("error")
    error = error if isinstance(error, dict) else {}
    message = str(error.get("message", "cannot do that: the daemon refused"))
    return QwenctlError.from_code(str(error.get("code")), message, error.get("hint"), envelope.get("data"))
