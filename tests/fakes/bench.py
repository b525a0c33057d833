"""A supervisor at work on real processes, for tests and benchmarks."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from qwenctl.engine.address import Address
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.spec import LaunchSpec
from qwenctl.supervise import states as st
from qwenctl.supervise.child import ChildProcess, spawn
from qwenctl.supervise.exits import Ending
from qwenctl.supervise.health import generates, measure, refusal
from qwenctl.supervise.policy import Policy
from qwenctl.supervise.supervisor import Effects, NotStartedError, Supervisor
from qwenctl.supervise.wedge import ServerSample, Traffic, WedgeLimits
from tests.fakes.configurations import of_spec
from tests.fakes.home import free_port

FAKE = Path(__file__).parent / "llama_server.py"
LIMITS = WedgeLimits(wedge_after_s=0.6, sample_s=0.1, probe_timeout_s=0.4, first_batch_s=3.0)
POLICY = Policy(first_delay_s=0.05, max_delay_s=0.2)
BUSY = Traffic(1, 0)


@dataclass
class Bench:
    """A supervisor at work, and what it did."""

    traffic: Traffic | None = None
    phases: list[str] = field(default_factory=list)
    last: Ending | None = None
    pid: int | None = None
    refuse: list[Ending | OSError] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    supervisor: Supervisor | None = None

    async def spawn(self, child: st.Child) -> ChildProcess:
        if self.refuse:
            reason = self.refuse.pop(0)
            raise NotStartedError(reason) if isinstance(reason, Ending) else reason
        return spawn(child.spec, lambda _: None)

    async def measure(self, child: st.Child, pid: int, timeout_s: float) -> ServerSample:
        traffic = self.traffic
        return await measure(child.spec, pid, timeout_s, lambda: traffic)

    def publish(self, before: st.State, after: st.State, pid: int | None) -> None:
        del before
        self.phases.append(type(after.phase).__name__)
        self.last, self.pid = after.last, pid
        self.changed.set()

    def degrade(self, configuration: Configuration, why: Ending) -> None:
        del configuration, why

    async def probe(self, child: st.Child, timeout_s: float) -> bool:
        return await generates(child.spec, timeout_s)

    async def restore(self, child: st.Child) -> None:
        del child

    async def until(self, phase: str, within: float = 20) -> None:
        async with asyncio.timeout(within):
            while not self.phases or self.phases[-1] != phase:
                self.changed.clear()
                await self.changed.wait()

    async def until_ended(self, cause: str, within: float = 20) -> None:
        async with asyncio.timeout(within):
            while self.last is None or self.last.cause != cause:
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def supervising(
    spec: LaunchSpec, bench: Bench, limits: WedgeLimits = LIMITS, policy: Policy = POLICY
) -> AsyncIterator[Supervisor]:
    effects = Effects(
        bench.spawn,
        bench.probe,
        bench.restore,
        bench.measure,
        bench.publish,
        bench.degrade,
        lambda _: None,
        lambda child, timeout_s: refusal(child.spec, timeout_s),
    )
    supervisor = Supervisor(effects, policy, limits=lambda _: limits)
    supervisor.post(st.Want(of_spec(spec)))
    running = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.close()
        await asyncio.wait_for(running, timeout=20)


def fake(behaviour: str = "{}", stop_timeout_s: float = 0.5, ready_timeout_s: float = 20) -> LaunchSpec:
    port = free_port()
    argv = (sys.executable, str(FAKE), "--host", "127.0.0.1", "--port", str(port), "--behave", behaviour)
    where = Address("127.0.0.1", port)
    return LaunchSpec(argv, where, ready_timeout_s=ready_timeout_s, stop_timeout_s=stop_timeout_s)


@dataclass
class Switched:
    """A server whose behaviour can be changed while it runs."""

    folder: Path

    @property
    def spec(self) -> LaunchSpec:
        binary = self.folder / "server"
        binary.write_bytes(FAKE.read_bytes())
        plain = fake()
        return LaunchSpec((sys.executable, str(binary), *plain.argv[2:]), plain.address, stop_timeout_s=0.5)

    def behave(self, behaviour: str) -> None:
        (self.folder / "server.json").write_text(behaviour)
