"""``qwenctl bench --tune``: try llama-server's options on the server of our own daemon."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwenctl import paths
from qwenctl.cli.arguments import config
from qwenctl.cli.output import Result, Session
from qwenctl.cli.target import Target
from qwenctl.control.call import call
from qwenctl.control.state_dir import read_overrides, read_status
from qwenctl.control.wait import Status, until_ready
from qwenctl.deploy import model_file, pipeline
from qwenctl.deploy.types import PlanRequest
from qwenctl.errors import LaunchError, SettingsError
from qwenctl.model.gguf_header import read_header
from qwenctl.settings.load import merge, nest

if TYPE_CHECKING:
    from qwenctl.client.bench.tune import BenchSample, TriedOption, Tuned

APPLY_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """How long and how thoroughly to tune, and whether to use the result."""

    budget_s: float
    runs: int
    generated_tokens: int
    inexact: bool
    keep: bool


def tune_here(session: Session, where: Target, wish: TuneRequest) -> Result:
    """Tune, then restore the server's options or, with ``--keep``, use the fastest ones.

    Raises:
        SettingsError: the endpoint is not our daemon's.
    """
    from qwenctl.client.bench.tune import tune, variants

    if where.resolved is None:
        raise SettingsError(
            "cannot tune another server: qwenctl can only change the options of its own",
            hint="leave out --url",
        )
    folder = paths.state_dir()
    prepared = pipeline.prepare(PlanRequest(folder, {}, config(session)))
    memory, cpu = prepared.plan.memory, prepared.hardware.cpu
    before = read_overrides(folder)
    mine = prepared.resolved.settings.server.extra_args
    give_up_at = time.monotonic() + wish.budget_s
    running: tuple[str, ...] = ()

    def switch(arguments: tuple[str, ...]) -> None:
        nonlocal running
        if arguments != running:
            overrides = merge(before, nest("server.extra_args", [*mine, *arguments])) if arguments else before
            running = arguments  # set first: after a failed attempt the old options must be restored, too
            _apply(folder, overrides, prepared.resolved.settings.supervise.ready_timeout_s)

    offered = variants(
        prepared.server.known,
        cpu.physical_cores,
        cpu.logical_cores,
        mtp=_has_mtp(model_file.model_path(prepared.resolved, prepared.plan)),
        inexact=wish.inexact,
    )
    tuned = tune(
        offered,
        switch,
        lambda: _sample(where, wish),
        memory.device_bytes + memory.host_bytes + memory.overhead_bytes,
        lambda: time.monotonic() < give_up_at,
        lambda option: session.say(_line(option)),
    )
    keep = wish.keep and bool(tuned.arguments)
    if keep:
        switch(tuned.arguments)
    return _result(tuned, [*mine, *tuned.arguments], keep=keep)


def _apply(folder: Path, overrides: dict[str, object], timeout_s: float) -> None:
    """Let the daemon use these overrides, and wait for the first token.

    Raises:
        QwenctlError: the server does not start with them.
    """
    old = (read_status(folder) or {}).get("pid")
    answer = call(folder, "POST", "/v1/apply", {"overrides": overrides}, timeout_s=APPLY_TIMEOUT_S)
    changed = isinstance(answer, dict) and answer.get("changed")
    status: Status = until_ready(folder, timeout_s, lambda _status: None, not_pid=old if changed else None)
    if status.get("rolled_back"):
        raise LaunchError(f"cannot use these options: {status['rolled_back']}")


def _sample(where: Target, wish: TuneRequest) -> "BenchSample":
    from qwenctl.client.bench.measure import measure, recipe
    from qwenctl.client.bench.resource_usage import ResourceMonitor
    from qwenctl.client.bench.tune import BenchSample

    pid = (read_status(paths.state_dir()) or {}).get("pid")
    with where.api() as api, ResourceMonitor(pid if isinstance(pid, int) else None) as monitor:
        measured = measure(api, recipe(wish.generated_tokens), wish.runs, fresh=False)
    speeds = tuple(
        speed
        for one in measured
        for speed in (one.values["generation_server"] or one.values["generation_client"])
    )
    together = (monitor.usage.process_bytes or 0) + (monitor.usage.gpu_bytes or 0)
    return BenchSample(speeds, {one.name: one.text for one in measured}, together or None)


def _has_mtp(model: Path) -> bool:
    """Return whether the file carries the block for multi-token prediction."""
    with model.open("rb") as file:
        header = read_header(file.read)
    return bool(header.number(f"{header.architecture}.nextn_predict_layers"))


def _line(option: "TriedOption") -> str:
    speed = f"{sum(option.speeds) / len(option.speeds):8.2f} tokens/s" if option.speeds else " " * 17
    gain = (
        f"  x {option.gain.ratio:.2f} ({option.gain.low:.2f} to {option.gain.high:.2f})"
        if option.gain
        else ""
    )
    same = f"  {option.same:.0%} of greedy text stays" if option.same is not None and option.gain else ""
    why = f": {option.why}" if option.why else ""
    return f"{option.variant.name:20} {speed}{gain}  {option.verdict}{same}{why}"


def _result(tuned: "Tuned", arguments: list[str], *, keep: bool) -> Result:
    data = {
        "arguments": list(tuned.arguments),
        "written": keep,
        "before": list(tuned.before),
        "after": list(tuned.after),
        "gain": asdict(tuned.gain) if tuned.gain else None,
        "tried": [asdict(option) for option in tuned.tried],
    }
    if not tuned.arguments:
        return Result(data, "no option is faster by more than the noise; nothing was changed")
    before, after = (sum(speeds) / len(speeds) for speeds in (tuned.before, tuned.after))
    gain = f" (x {tuned.gain.low:.2f} to {tuned.gain.high:.2f})" if tuned.gain else ""
    summary = f"{before:.2f} -> {after:.2f} tokens/s{gain} with {' '.join(tuned.arguments)}"
    words = ", ".join(f'"{word}"' for word in arguments)
    how = f"to use it: --keep, or [server] extra_args = [{words}]"
    return Result(data, f"{summary}\n{'in use; qwenctl up --reset takes it back' if keep else how}")
