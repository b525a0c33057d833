"""A gate alone, in front of a server at a Unix socket, until its input ends: for stream_memory."""

import asyncio
import sys
import tempfile
from pathlib import Path

from qwenctl.engine.address import Address
from qwenctl.gate.gate import Gate
from qwenctl.gate.options import GateLimits, GateOptions
from qwenctl.gate.upstream import UpstreamState


class NoDaemon:
    """What a gate asks of a daemon, answered by nobody."""

    def demand(self, held: bool) -> None:  # noqa: FBT001 - as in the protocol
        """Start nothing."""

    def unload(self) -> None:
        """Stop nothing."""

    async def examine(self, child: int, fault: str) -> bool:
        """End no child."""
        del child, fault
        return False


async def main(child: str, port: int, max_held_bytes: int, continue_streams: str) -> None:
    """Listen until the input ends."""
    limits = GateLimits(max_held_bytes=max_held_bytes, continue_streams=continue_streams == "on")
    options = GateOptions(warm=False, limits=limits)
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(NoDaemon(), (), Path(folder), options)
        await gate.open(Address("127.0.0.1", port), options)
        gate.tell(UpstreamState("ready", 1, Address(child, None)))
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await gate.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
