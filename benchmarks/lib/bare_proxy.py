"""The least that a proxy on asyncio's event loop does: bytes both ways, no HTTP. Run by gate_cost."""

import asyncio
import sys


class Half(asyncio.Protocol):
    """One side of a connection; what it hears the other side says."""

    def __init__(self) -> None:
        self.other: asyncio.Transport | None = None
        self.transport: asyncio.Transport | None = None
        self.early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember who speaks."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass it on, or keep it until there is somebody."""
        if self.other is not None:
            self.other.write(data)
        else:
            self.early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side too."""
        del exc
        if self.other is not None:
            self.other.close()


class Client(Half):
    """The side of the client, which asks for the other one."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the server."""
        super().connection_made(transport)
        self.connecting = asyncio.ensure_future(self.connect())

    async def connect(self) -> None:
        """Tie both sides together."""
        server, half = await asyncio.get_running_loop().create_unix_connection(Half, self.path)
        self.other, half.other = server, self.transport
        server.write(self.early)


async def main(path: str, port: int) -> None:
    """Listen until the end."""
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Client(path), "127.0.0.1", port) as listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
