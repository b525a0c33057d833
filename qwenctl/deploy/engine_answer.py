"""Ask the engine about a model of a kind that nobody has written formulas for.

The formulas then give an upper bound only. ``llama-fit-params`` reads the file's header and says what a load
takes; the plan is made again with that. Where the tool is missing, or the plan is for another machine, the
bound stays, and the plan warns of it.
"""

from functools import lru_cache
from pathlib import Path

from qwenctl.deploy.listed_model import header_file
from qwenctl.deploy.types import ResolvedSettings, Surveyed
from qwenctl.engine.fit_params import ask, tool_beside
from qwenctl.engine.fit_table import FitRow
from qwenctl.errors import FetchError, LaunchError
from qwenctl.plan.known import KnownLoad
from qwenctl.plan.memory import MIB, Load, Part

HOST = "Host"


def engine_answer(resolved: ResolvedSettings, surveyed: Surveyed, quant: str, load: Load) -> KnownLoad | None:
    """Return what the engine says that a load takes; None where it cannot be asked or knows other devices."""
    tool = tool_beside(surveyed.server.path) if surveyed.server is not None else None
    if tool is None:
        return None
    try:
        rows = _ask(tool, _file(resolved, quant), load, resolved.settings.server.rpc)
    except (LaunchError, FetchError, OSError):
        return None
    ids = tuple(accelerator.id for accelerator in surveyed.hardware.accelerators)
    return known_load(rows, ids, quant, load)


def known_load(rows: tuple[FitRow, ...], ids: tuple[str, ...], quant: str, load: Load) -> KnownLoad | None:
    """Return the engine's rows as a known load on these devices; None if it knows others."""
    found = {row.device: row for row in rows}
    if HOST not in found or set(found) - {HOST} != set(ids):
        return None
    return KnownLoad(
        quant=quant,
        context_tokens=load.context_tokens,
        kv_type=load.kv_type,
        parallel=load.parallel,
        parts=tuple(_part(found[device]) for device in ids),
        host=_part(found[HOST]),
        source="engine",
    )


def _part(row: FitRow) -> Part:
    """Return a row as a part. The tool does not tell keys and values from a recurrent state."""
    return Part(row.model_mib * MIB, row.context_mib * MIB, 0, row.compute_mib * MIB)


def _file(resolved: ResolvedSettings, quant: str) -> Path:
    """Return a file that the engine can read: the model, or its header with a hole to its size."""
    if resolved.settings.model.path is not None:
        return Path(resolved.settings.model.path)
    return header_file(resolved.profile, quant, offline=resolved.settings.fetch.offline)


@lru_cache(maxsize=32)
def _ask_once(
    tool: Path, model: Path, stamp: tuple[int, int], load: Load, rpc: tuple[str, ...]
) -> tuple[FitRow, ...]:
    del stamp
    return ask(tool, model, load, rpc=rpc)


def _ask(tool: Path, model: Path, load: Load, rpc: tuple[str, ...]) -> tuple[FitRow, ...]:
    """Ask once for each state of the file."""
    found = model.stat()
    return _ask_once(tool, model, (found.st_size, found.st_mtime_ns), load, rpc)
