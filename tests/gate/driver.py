"""A gate with the real server behind it, and the hand that kills and starts that server. No supervisor."""

import asyncio
import contextlib
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from qwenctl.engine.address import Address
from qwenctl.gate.gate import Gate
from qwenctl.gate.guard import rules
from qwenctl.gate.options import GateLimits, GateOptions
from qwenctl.gate.slots.rules import SlotLimits
from qwenctl.gate.slots.save_control import MakeKeeper
from qwenctl.gate.slots.saver import SlotSaver
from qwenctl.gate.upstream import UpstreamState
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise.child import ChildProcess, spawn
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.health import generates

READY_TRIES = 600
PROBE_S = 0.02


async def works(child: int) -> bool:
    """What is said of a child that generates a token: it is not ended."""
    del child
    return False


@dataclass
class Setup:
    """What a test changes of the usual."""

    limits: GateLimits = field(default_factory=GateLimits)
    key_file: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    parallel: int = 2
    context: int = 4096
    idle_unload_s: float = 0.0
    warm_after_s: float = 5.0
    flags: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    warm: SlotLimits | None = None
    make_keeper: MakeKeeper = SlotSaver
    fingerprint: str = "demo"


class Driver:
    """Starts, kills and restarts the child, and tells the gate."""

    def __init__(self, binary: Path, model: Path, folder: Path, setup: Setup) -> None:
        self.setup, self.folder = setup, folder
        self.socket = folder / "s.sock"
        self.output = bytearray()
        self.kept = folder / "warm"
        self.kept.mkdir(mode=0o700)
        self.number = 0
        self.crashed: int | None = None
        self.child: ChildProcess | None = None
        self.ended: asyncio.Task[Ending] | None = None
        self.spec = self.spec_of(binary, model)
        self.demands: list[bool] = []
        self.examined: list[tuple[int, str]] = []
        self.examining: Callable[[int], Awaitable[bool]] = works
        self.phase = "down"
        self.unloaded = asyncio.Event()
        self.wakened = asyncio.Event()
        self.options = GateOptions(
            rules=rules("127.0.0.1", setup.hosts, setup.origins),
            key_file=setup.key_file,
            limits=setup.limits,
            idle_unload_s=setup.idle_unload_s,
            warm=setup.warm is not None or setup.make_keeper is not SlotSaver,
            warm_after_s=setup.warm_after_s,
            slot_limits=setup.warm or SlotLimits(),
        )
        self.gate = self.new_gate()
        self.port = 0
        self.listening = socket.create_server(("127.0.0.1", 0))  # the service manager's end

    def new_gate(self) -> Gate:
        return Gate(self, (), self.kept, self.options, make_keeper=self.setup.make_keeper)

    def spec_of(self, binary: Path, model: Path) -> LaunchSpec:
        setup = self.setup
        debug = (("LLAMA_SERVER_SLOTS_DEBUG", "1"),) if setup.warm else ()
        context = setup.context * setup.parallel
        words = f"--alias demo -np {setup.parallel} -c {context} --cache-ram 64 -ctxcp 2 -t 1"
        argv = (
            str(binary),
            "-m",
            str(model),
            *words.split(),
            "--jinja",
            "--host",
            str(self.socket),
            *(("--slot-save-path", str(self.kept)) if setup.warm else ()),
            *setup.flags,
        )
        return LaunchSpec(
            argv, Address(str(self.socket), None), (*setup.environment, *debug), ready_timeout_s=20
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # ChildDemand

    def demand(self, held: bool) -> None:  # noqa: FBT001 - as in the protocol
        self.demands.append(held)
        if held and self.phase == "idle":
            self.wakened.set()

    def unload(self) -> None:
        self.unloaded.set()

    async def examine(self, child: int, fault: str) -> bool:
        self.examined.append((child, fault))
        return await self.examining(child)

    # What the daemon does.

    def tell(self, phase: str, **more: str) -> None:
        address = self.spec.address if phase in ("restoring", "ready") else None
        self.phase = phase
        self.gate.tell(
            UpstreamState(
                phase,
                self.number,
                address,
                crashed=self.crashed,
                alias="demo",
                slots_fingerprint=self.setup.fingerprint,
                **more,
            )
        )

    async def begin(self) -> None:
        """Start a child; it is not ready yet."""
        self.number += 1
        self.child = spawn(self.spec, self.output.extend)
        self.ended = asyncio.create_task(self.child.wait())
        self.tell("starting")

    async def up(self) -> None:
        """Start a child and wait until it is ready."""
        await self.begin()
        await self.ready()

    async def ready(self) -> None:
        for _ in range(READY_TRIES):
            if await generates(self.spec, 20.0):
                self.tell("restoring")
                await self.gate.restore()
                self.tell("ready")
                return
            await asyncio.sleep(PROBE_S)
        raise AssertionError(bytes(self.output[-2000:]).decode(errors="replace"))

    async def down(self, number: signal.Signals = signal.SIGKILL, phase: str = "backoff") -> None:
        """End the child; a fault of its own unless it was SIGKILL or SIGTERM."""
        assert self.child is not None
        assert self.ended is not None
        self.child.signal(number)
        await asyncio.shield(self.ended)
        if number not in (signal.SIGKILL, signal.SIGTERM):
            self.crashed = self.number
        self.child = None
        self.tell(phase)

    async def close(self) -> None:
        if self.child is not None:
            await self.down(phase="down")
        await self.gate.stop()


@contextlib.asynccontextmanager
async def driving(binary: Path, model: Path, setup: Setup | None = None) -> AsyncIterator[Driver]:
    """A gate that listens, and no child yet."""
    with tempfile.TemporaryDirectory(prefix="qg-", dir="/tmp") as folder:
        driver = Driver(binary, model, Path(folder), setup or Setup())
        with driver.listening as listening:
            listening.setblocking(False)
            driver.port = listening.getsockname()[1]
            await driver.gate.open(Address("127.0.0.1", driver.port), driver.options, listening.dup())
            try:
                yield driver
            finally:
                await driver.close()


async def until(condition: Callable[[], object], within: float = 20.0) -> None:
    """Wait for something to become true, without stopping the loop."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - the condition is anybody's
            await asyncio.sleep(0.005)


def client() -> aiohttp.ClientSession:
    """A client with a new connection for each request."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))


def direct(driver: Driver) -> aiohttp.ClientSession:
    """A client of the child itself."""
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(driver.socket), force_close=True))


Scenario = Callable[[Driver, aiohttp.ClientSession], Awaitable[None]]


def play(
    binary: Path, model: Path, scenario: Scenario, setup: Callable[[], Setup] = Setup, *, up: bool = True
) -> None:
    """Run a scenario against a fresh gate, with the child up if asked."""

    async def run() -> None:
        async with driving(binary, model, setup()) as driver, client() as session:
            if up:
                await driver.up()
            await asyncio.wait_for(scenario(driver, session), 60)

    asyncio.run(run())
