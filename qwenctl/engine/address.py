"""Where a llama-server, or the gate in front of it, listens. Pure: no I/O."""

from dataclasses import dataclass

from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: ``host`` and ``port``, or a Unix socket path and no port.

    ``host`` may name several addresses, between commas.
    """

    host: str
    port: int | None

    @property
    def url(self) -> str:
        """The URL for a client on this machine. A wildcard address is reached through loopback."""
        first = hosts_of(self.host)[0]
        loopback = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - read, not bound
        host = loopback.get(first, f"[{first}]" if ":" in first else first)
        return f"http://{host}:{self.port}" if self.port is not None else "http://llama-server"

    @property
    def socket(self) -> str | None:
        """The Unix socket path, if it is one."""
        return self.host if self.port is None else None


def hosts_of(host: str) -> tuple[str, ...]:
    """Return the hosts that ``[server] host`` names: one, or several between commas, as for llama-server."""
    return tuple(each for part in host.split(",") if (each := part.strip())) or (host,)


def endpoint_address(settings: Settings) -> Address:
    """Return where the endpoint listens."""
    return Address(settings.server.host, settings.server.port)
