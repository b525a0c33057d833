"""What the supervisor does to the world: start a server, ask it for a token, restore its slots, drain it."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from qwenctl import paths
from qwenctl.control.state_dir import LOADS
from qwenctl.daemon.child_record import attempt, record_child
from qwenctl.daemon.deployment import Deployment
from qwenctl.daemon.event_log import EventLog
from qwenctl.daemon.gateway import Gateway
from qwenctl.daemon.handover import HandedChild
from qwenctl.daemon.isolation import contained, describe
from qwenctl.daemon.troubles import Troubles
from qwenctl.deploy import pipeline
from qwenctl.deploy.free_memory import shortage
from qwenctl.deploy.load_record import load_key, remember_load
from qwenctl.fetch.clock import in_thread
from qwenctl.hardware.gpu_load import GpuWatch, no_gpu
from qwenctl.launch.configuration import Configuration
from qwenctl.launch.load_check import differences, known_load, lost_devices
from qwenctl.launch.load_log import Buffers, MeasuredLoad, compare, parse_log
from qwenctl.launch.spec import LaunchSpec
from qwenctl.plan.known import KnownLoad
from qwenctl.supervise import lifecycle as lc
from qwenctl.supervise import states as st
from qwenctl.supervise.adopted_child import adopt
from qwenctl.supervise.child import ChildProcess, spawn
from qwenctl.supervise.crash_texts import LOST_HINT
from qwenctl.supervise.exits import GPU_LOST, Ending
from qwenctl.supervise.health import generates, measure, refusal
from qwenctl.supervise.logfile import LogFile, Throttle
from qwenctl.supervise.supervisor import Effects, NotStartedError, Supervisor
from qwenctl.supervise.wedge import ServerSample


class ServerEffects:
    """The effects of one daemon's supervisor. An unexpected error parks the server and ends nothing else."""

    def __init__(self, folder: Path, log: LogFile, events: EventLog, troubles: Troubles) -> None:
        self.process: ChildProcess | None = None
        self.loaded: MeasuredLoad | None = None  # the prediction beside what the last load took
        self._folder, self._events, self._troubles = folder, events, troubles
        self._unsaved: tuple[str, KnownLoad] | None = None
        self._throttle = Throttle(log.write)
        self._tasks: set[asyncio.Task[None]] = set()
        self._gpu = GpuWatch()

    def connect(
        self,
        gateway: Gateway,
        publish: Callable[[st.State, st.State, int | None], None],
        degrade: Callable[[Configuration, Ending], None],
    ) -> Effects:
        """Return the effects for a supervisor whose changes are published and whose memory runs out there."""
        self._gateway = gateway
        return Effects(
            spawn=self._spawn,
            probe=self._probe,
            restore=self._restore,
            measure=self._measure,
            publish=publish,
            degrade=degrade,
            drain=self._drain,
            refusal=self._refusal,
        )

    def use(self, supervisor: Supervisor, deployment: Deployment) -> None:
        """Learn whom to tell and whom to ask."""
        self._supervisor, self._deployment = supervisor, deployment

    def adopt(self, handed: HandedChild, spec: LaunchSpec) -> ChildProcess:
        """Take over the child of an earlier program of this process.

        Raises:
            OSError: its output cannot be read, or no descriptor is left.
        """
        known = (handed.identity, handed.pipe, spec, handed.heard)
        self.process = adopt(*known, self._throttle, handed.lifeline)
        self.loaded = handed.loaded
        return self.process

    async def _spawn(self, child: st.Child) -> ChildProcess:
        outcome = await contained(self._try_start(child), self._not_started)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _try_start(self, child: st.Child) -> ChildProcess | OSError | NotStartedError:
        try:
            if child.spec.address.socket is None:
                await self._gateway.release(child.spec.address)
            one = child.configuration
            if child.spec != self._deployment.start_anyway:
                # in a thread: a driver that hangs, or a machine with many processes, must not stop the gate
                short = await in_thread(lambda _: shortage(one.plan, one.hardware))
                if short is not None:
                    return NotStartedError(short)
            return self._start(child)
        except OSError as error:
            return error

    def _not_started(self, error: Exception) -> NotStartedError:
        summary = f"cannot start the server: {describe(error)}"
        self._troubles.set("effects", summary)
        return NotStartedError(Ending("spawn_failed", summary, permanent=True))

    def _start(self, child: st.Child) -> ChildProcess:
        if child.spec.address.socket is not None:
            self._troubles.set("folder", attempt(_make_folders, "the state folder"))
        listening = st.Listening(child.number)
        self.process = spawn(child.spec, self._throttle, lambda: self._supervisor.post(listening))
        self._troubles.set("child", record_child(self._folder, self.process.pid))
        self._troubles.set("effects", None)
        self._troubles.set("load", None)
        return self.process

    async def _probe(self, child: st.Child, timeout_s: float) -> bool:
        return await contained(self._generates(child, timeout_s), self._unanswered)

    async def _refusal(self, child: st.Child, timeout_s: float) -> str | None:
        return await contained(refusal(child.spec, timeout_s), lambda _: None)

    async def _generates(self, child: st.Child, timeout_s: float) -> bool:
        """Ask for a token; of a server that starts, look at where its layers went, too."""
        empty = isinstance(self._supervisor.state.phase, st.Starting)
        if not await generates(child.spec, timeout_s, empty=empty):
            return False
        process, phase = self.process, self._supervisor.state.phase
        if not isinstance(phase, st.Starting) or process is None:
            return True
        self._troubles.set(
            "child", record_child(self._folder, process.pid)
        )  # a script has become its program
        buffers, plan = parse_log(process.said()), child.configuration.plan
        self.loaded = compare(plan.memory, buffers) if buffers.device_mib or buffers.host_mib else None
        self._note_load(child.configuration, buffers)
        if lost := lost_devices(plan, buffers):
            self._supervisor.post(st.Faulty(phase.child.number, _without(lost)))
            return False
        if plan.devices and buffers.partly_on_cpu:
            self._supervisor.post(st.Faulty(phase.child.number, _spilled(buffers)))
            return False
        return True

    def _note_load(self, one: Configuration, buffers: Buffers) -> None:
        """Say how the load differs from its plan, and keep its figures for the next plan."""
        plan = one.plan
        if self.loaded is not None:
            self._events.note("loaded", **dataclasses.asdict(self.loaded))
        found = differences(plan, one.profile.architecture.name, buffers, self.loaded)
        self._troubles.set("load", "; ".join(found) or None)
        load = known_load(plan, buffers)
        if load is not None and plan.memory.source != "measured":
            self._unsaved = load_key(one.hardware, one.profile, one.settings, one.engine), load
            self._save_load()

    def _save_load(self) -> None:
        if self._unsaved is not None:
            wanted, load = self._unsaved
            trouble = attempt(lambda: remember_load(self._folder, wanted, load), LOADS)
            self._troubles.set("loads", trouble)
            self._unsaved = self._unsaved if trouble else None

    async def _measure(self, child: st.Child, pid: int, timeout_s: float) -> ServerSample:
        one = child.configuration
        used = [each for each in one.hardware.accelerators if each.id in one.plan.devices]
        gpu = self._gpu.reader(tuple(used)) if one.plan.devices else no_gpu
        work = measure(child.spec, pid, timeout_s, self._gateway.traffic, gpu)
        return await contained(work, lambda _: ServerSample(time.monotonic()))

    async def _restore(self, child: st.Child) -> None:
        del child
        await contained(self._gateway.restore(), self._unfinished)

    def _drain(self, child: st.Child) -> None:
        """Let the answers in flight finish; what comes meanwhile is held."""
        timeout_s = child.configuration.settings.gate.drain_timeout_s

        async def drain() -> None:
            await contained(self._gateway.drain(timeout_s), self._unfinished)
            self._supervisor.post(st.Drained(child.number))

        task = asyncio.get_running_loop().create_task(drain())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def mend(self) -> None:
        """Write now what could not be written before."""
        if self._troubles.get("child") and self.process is not None:
            self._troubles.set("child", record_child(self._folder, self.process.pid))
        self._save_load()

    def _unanswered(self, error: Exception) -> bool:
        self._troubles.set("effects", f"cannot ask the server for a token: {describe(error)}")
        return False

    def _unfinished(self, error: Exception) -> None:
        self._troubles.set("effects", f"cannot restore or drain: {describe(error)}")


def crashed_by_itself(before: st.State, after: st.State) -> int | None:
    """Return the number of a child that has just ended through a fault of its own. Pure.

    A child that was killed from outside, or ended by us, says nothing against the request it was working on.
    """
    gone = lc.live(before)
    if gone is None or after.last is before.last or after.last is None:
        return None
    return None if after.last.cause in ("killed", "wedged", "not_ready") else gone.number


def _make_folders() -> None:
    """Make what the child needs and somebody may have removed: the folders of its socket and of its slots."""
    for folder in (paths.state_dir(), pipeline.slots_dir()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _without(lost: tuple[str, ...]) -> Ending:
    summary = f"the device was lost: nothing was loaded on {', '.join(lost)}, which the plan uses"
    return Ending(GPU_LOST, summary, hint=LOST_HINT)


def _spilled(loaded: Buffers) -> Ending:
    done, layers = loaded.offloaded or (0, 0)
    summary = f"only {done} of {layers} layers fit on the device"
    return Ending("device_out_of_memory", summary, hint="choose a smaller quant or context")
