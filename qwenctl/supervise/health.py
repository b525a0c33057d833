"""Ask a server for one token. ``/health`` alone proves nothing; a token does."""

from pathlib import Path

import httpx

from qwenctl.launch.spec import LaunchSpec

CONNECT_TIMEOUT_S = 2.0


async def generates(spec: LaunchSpec) -> bool:
    """Return whether the server generated a token. A server that is still loading says no at once."""
    transport = httpx.AsyncHTTPTransport(uds=spec.address.socket)
    timeout = httpx.Timeout(spec.ready_timeout_s, connect=CONNECT_TIMEOUT_S)
    async with httpx.AsyncClient(
        base_url=spec.address.url,
        transport=transport,
        timeout=timeout,
        headers=_headers(spec),
        trust_env=False,
    ) as client:
        try:
            health = await client.get("/health", timeout=CONNECT_TIMEOUT_S)
            if not health.is_success:
                return False
            answer = await client.post("/completion", json={"prompt": "Hi", "n_predict": 1})
            return answer.is_success and "content" in answer.json()
        except (httpx.HTTPError, ValueError):
            return False


def _headers(spec: LaunchSpec) -> dict[str, str]:
    if spec.key_file is None:
        return {}
    try:
        lines = Path(spec.key_file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    keys = (line.strip() for line in lines)
    return next(({"Authorization": f"Bearer {key}"} for key in keys if key and not key.startswith("#")), {})
