"""Ask a server what it does. ``/health`` alone proves nothing; a token does."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.wedge import Sample, Slot, Traffic

CONNECT_TIMEOUT_S = 2.0
SLOTS_TIMEOUT_S = 5.0
PROC = Path("/proc")
ASK = {"prompt": "Hi", "n_predict": 1}
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here speaks TLS; loading the usual certificates for each client takes 20 ms."""


async def generates(spec: LaunchSpec, timeout_s: float, *, empty: bool = False) -> bool:
    """Return whether the server generated a token. A server that is still loading says no at once.

    ``empty``: no slot holds anything yet, so none need be kept; the first token then comes in half the time.
    """
    async with _client(spec, timeout_s) as client:
        try:
            answer = await client.post("/completion", json={**ASK, "cache_prompt": not empty})
            said = answer.json()
            return answer.is_success and isinstance(said, dict) and "content" in said
        except (httpx.HTTPError, ValueError):
            return False


async def measure(
    spec: LaunchSpec, pid: int, timeout_s: float, traffic: Callable[[], Traffic | None]
) -> Sample:
    """Return what the server does now. An idle one is not asked, where a gate knows that it is idle."""
    seen = traffic()
    if seen is not None and seen.in_flight == 0:
        return Sample(time.monotonic(), seen)
    slots = await _slots(spec, min(timeout_s, SLOTS_TIMEOUT_S))
    return Sample(time.monotonic(), seen, slots, _cpu_s(pid), _runnable(pid))


async def _slots(spec: LaunchSpec, timeout_s: float) -> tuple[Slot, ...] | None:
    async with _client(spec, timeout_s) as client:
        try:
            answer = await client.get("/slots")
            said = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
    entries = said if isinstance(said, list) else []
    return tuple(_slot(entry) for entry in entries if isinstance(entry, dict)) or None


def _slot(entry: dict[str, object]) -> Slot:
    """Read one slot. An idle one shows little more than that it is. Source: llama-server b11434."""
    following = entry.get("next_token")
    first = following[0] if isinstance(following, list) and following else None
    return Slot(
        task=_int(entry.get("id_task")),
        busy=bool(entry.get("is_processing")),
        prompt_tokens=_int(entry.get("n_prompt_tokens_processed")),
        answer_tokens=_int(first.get("n_decoded")) if isinstance(first, dict) else 0,
    )


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _cpu_s(pid: int) -> float | None:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return times.user + times.system


def _runnable(pid: int) -> bool | None:
    """Return whether a thread runs, waits for a CPU or for the disk. Source: proc(5), R and D in stat."""
    try:
        return any(_state(task) in ("R", "D") for task in (PROC / str(pid) / "task").iterdir())
    except OSError:
        return None  # no such place, or it is gone


def _state(task: Path) -> str:
    return (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]


def _client(spec: LaunchSpec, timeout_s: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=spec.address.url,
        transport=httpx.AsyncHTTPTransport(uds=spec.address.socket, verify=NO_CERTIFICATES),
        timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
        headers=_headers(spec),
        trust_env=False,
    )


def _headers(spec: LaunchSpec) -> dict[str, str]:
    if spec.key_file is None:
        return {}
    try:
        lines = Path(spec.key_file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    keys = (line.strip() for line in lines)
    return next(({"Authorization": f"Bearer {key}"} for key in keys if key and not key.startswith("#")), {})
