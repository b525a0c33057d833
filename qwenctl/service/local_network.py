"""Say when macOS may keep a job away from other machines of the network. Pure: no I/O.

Since macOS 15 a program needs a person's permission for the local network. A refusal looks like a network
that is down: "No route to host". A job of launchd has no window that could ask.
"""

import ipaddress
from collections.abc import Iterable

LOCAL_NETWORK = (
    "macOS 15 and later may refuse a service the local network; [server] rpc has {hosts}. A refusal reads "
    '"No route to host". Allow it in System Settings, Privacy & Security, Local Network'
)
"""Source of the words and the symptom: hermes-agent #57812, openclaw #24018; Apple's TN3179."""


def notes_of_rpc(workers: Iterable[str]) -> tuple[str, ...]:
    """Return what to say of workers on other machines: nothing if there are none."""
    hosts = [worker for worker in workers if not _is_here(worker)]
    return (LOCAL_NETWORK.format(hosts=", ".join(hosts)),) if hosts else ()


def _is_here(worker: str) -> bool:
    """Return whether a worker, HOST:PORT, is on this machine."""
    host = worker.rpartition(":")[0].strip("[]") or worker
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
