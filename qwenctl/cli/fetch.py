"""``qwenctl fetch``: download and verify the model file."""

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.arguments import model_argument, request
from qwenctl.cli.bar import Moved, ProgressBar
from qwenctl.cli.fetch_prune import prune
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.daemon.keep_awake import FETCHES, Awake
from qwenctl.deploy import model_file, pipeline
from qwenctl.deploy.exact_plan import decide
from qwenctl.deploy.types import ResolvedSettings
from qwenctl.errors import FetchError
from qwenctl.fetch.artifact import fetch
from qwenctl.fetch.gguf_check import local_artifact
from qwenctl.fetch.preview import Preview, dry_run
from qwenctl.fetch.request import Artifact, Progress, request_for
from qwenctl.model.profile import Quant
from qwenctl.plan.planner import find_quant

GB = 10**9


@click.command("fetch", epilog="Example: qwenctl fetch --dry-run")
@common
@model_argument
@click.option("--quant", metavar="Q", help="Use this quant of the model. Default: the best one that fits.")
@click.option("--dry-run", is_flag=True, help="Show what would be downloaded. Downloads nothing.")
@click.option("--update", is_flag=True, help="Use the newest commit of the repository.")
@click.option("--offline", is_flag=True, help="Never contact the hub.")
@click.option(
    "--local",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check a GGUF file on this machine instead.",
)
@click.option(
    "--prune", "pruning", is_flag=True, help="List partial downloads and unused quants, and remove them."
)
@click.option("--yes", is_flag=True, help="With --prune: remove without asking.")
@click.pass_obj
def command(
    session: Session, /, model: str | None, quant: str | None, local: Path | None, **switches: bool
) -> Result:
    """Download the model file and verify it. Starts nothing.

    MODEL is a profile, a GGUF file, or OWNER/REPO[:QUANT] of the hub. Default: the profile of the settings.
    """
    offline = True if switches["offline"] else None
    plan_request = request(session, {"model.quant": quant, "fetch.offline": offline}, model)
    if switches["pruning"]:  # it needs no hub, and no settings that can be planned
        offline_request = request(session, {"model.quant": quant, "fetch.offline": True}, model)
        return prune(session, offline_request, yes=switches["yes"])
    resolved = pipeline.resolve(replace(plan_request, update=switches["update"]))
    if local is not None:
        return _result(local_artifact(local, resolved.profile.architecture.name), changed=False)
    named = resolved.settings.model.path
    if named is not None:
        return _result(local_artifact(Path(named), resolved.profile.architecture.name), changed=False)
    if model_file.is_local(resolved):
        path = model_file.obtain_local(pipeline.prepare(plan_request))
        return Result({"changed": False, "path": str(path), "commit": None}, str(path))
    resolved, chosen = _chosen(resolved)
    packaged = None if switches["update"] else model_file.packaged_file(resolved, chosen)
    if packaged is not None:
        return _result(packaged, changed=False)
    fetch_request = request_for(resolved.profile, chosen, resolved.settings, update=switches["update"])
    if fetch_request is None:
        raise FetchError(f"cannot fetch {chosen.name}: profile {resolved.profile.name} names no repository")
    if switches["dry_run"]:
        return _preview(asyncio.run(dry_run(fetch_request, state_dir=paths.state_dir())))
    downloads, awake = 0, Awake()
    sleepless = resolved.settings.server.keep_awake != "never"
    with ProgressBar(session) as bar:

        def on_progress(step: Progress) -> None:
            nonlocal downloads
            downloads += step.phase == "downloading"
            if step.phase == "downloading" and sleepless:
                awake.update(FETCHES)
            bar(Moved(step.file, step.bytes, step.total_bytes, step.bytes_per_s, step.phase))

        try:
            artifact = asyncio.run(
                fetch(fetch_request, on_progress, state_dir=paths.private_dir(paths.state_dir()))
            )
        finally:
            awake.close()
    return _result(artifact, changed=downloads > 0)


def _chosen(resolved: ResolvedSettings) -> tuple[ResolvedSettings, Quant]:
    """Return the quant of the settings, else the one that the plan chooses, with its exact sizes."""
    name = resolved.settings.model.quant
    if name == "auto":
        resolved, plan = decide(resolved, pipeline.survey(resolved))
        name = plan.quant
    return resolved, find_quant(resolved.profile, name)


def _result(artifact: Artifact, *, changed: bool) -> Result:
    files = [
        {"name": file.name, "path": str(file.path), "bytes": file.bytes, "sha256": file.sha256}
        for file in artifact.files
    ]
    data = {"changed": changed, "path": str(artifact.path), "commit": artifact.commit, "files": files}
    return Result(data, str(artifact.path))


def _preview(preview: Preview) -> Result:
    here = ((file, file.bytes / GB, file.have_bytes / GB) for file in preview.files)
    lines = [f"{preview.repo} at {preview.commit}"]
    lines += [f"  {file.name}  {size:.2f} GB, {have:.2f} GB here  {file.path}" for file, size, have in here]
    lines.append(f"download  {preview.needed_bytes / GB:.2f} GB into {preview.target}")
    lines.append(f"free      {preview.free_bytes / GB:.2f} GB")
    if preview.newer_commit:
        lines.append(f"newer     {preview.newer_commit} (qwenctl fetch --update moves to it)")
    data = {
        "repo": preview.repo,
        "revision": preview.revision,
        "commit": preview.commit,
        "files": [
            {
                "name": file.name,
                "path": str(file.path),
                "bytes": file.bytes,
                "have_bytes": file.have_bytes,
                "sha256": file.sha256,
            }
            for file in preview.files
        ],
        "target": str(preview.target),
        "needed_bytes": preview.needed_bytes,
        "free_bytes": preview.free_bytes,
        "newer_commit": preview.newer_commit,
    }
    return Result(data, "\n".join(lines))
