"""Where a llama-server, or the gate in front of it, listens. Pure: no I/O."""

from dataclasses import dataclass

from qwenctl.settings.types import Settings


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: ``host`` and ``port``, or a Unix socket path and no port."""

    host: str
    port: int | None

    @property
    def url(self) -> str:
        """The URL for a client on this machine. A wildcard address is reached through loopback."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - read, not bound
        host = loopback.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{host}:{self.port}" if self.port is not None else "http://llama-server"

    @property
    def socket(self) -> str | None:
        """The Unix socket path, if it is one."""
        return self.host if self.port is None else None


def endpoint_address(settings: Settings) -> Address:
    """Return where the endpoint listens."""
    return Address(settings.server.host, settings.server.port)
