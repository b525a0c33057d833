"""``qwenctl engine``: which llama-server is used; install, update, roll back official builds of llama.cpp."""

from pathlib import Path

import click

from qwenctl import paths
from qwenctl.cli.arguments import request
from qwenctl.cli.engine_change import (
    data_of,
    engine_named,
    in_force,
    install_and_use,
    install_files,
    short_reason,
    use_engine,
)
from qwenctl.cli.engine_view import engines_on_this_machine, listed
from qwenctl.cli.group import Group, common
from qwenctl.cli.output import Result, Session
from qwenctl.deploy import pipeline
from qwenctl.deploy.types import ResolvedSettings
from qwenctl.engine.builds.build_names import BACKENDS
from qwenctl.engine.builds.engine_host import EngineHost, host_of, version_of
from qwenctl.engine.builds.install_release import EngineSource, check_backend, find_offer, is_newer, source_of
from qwenctl.engine.builds.installation import drop, superfluous
from qwenctl.engine.builds.installed_engines import chosen, read_engine
from qwenctl.errors import FetchError, QwenctlError, SettingsError
from qwenctl.hardware.detect import SystemProbe, detect
from qwenctl.hardware.saved import read_machine

BACKEND = click.option(
    "--backend",
    metavar="B",
    help=f"Take this kind of build, whatever speaks against it: {', '.join(BACKENDS)}; or one version "
    "(cuda-12), one variant (sycl-fp16).",
)


@click.group("engine", cls=Group, epilog="Example: qwenctl engine list")
@common
def command() -> None:
    """Show, install, update or roll back the engine: llama.cpp's llama-server."""


@command.command("list", epilog="Example: qwenctl engine list --hardware machine.json --glibc 2.36")
@common
@click.argument("version", required=False, metavar="[VERSION]")
@BACKEND
@click.option(
    "--hardware",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Choose for the machine in FILE: the output of qwenctl hardware --json.",
)
@click.option("--glibc", metavar="V", help="Choose for a system with this version of the GNU C library.")
@click.pass_obj
def list_engines(
    session: Session, version: str | None, backend: str | None, hardware: Path | None, glibc: str | None
) -> Result:
    """Show the engines on this machine, and which official build suits it and why the others do not.

    VERSION is a release of llama.cpp (b11476, v0.5.0). Default: the newest.
    """
    resolved, source = _source(session)
    if backend is not None:
        check_backend(backend)
    if glibc is not None and version_of(glibc) is None:
        raise SettingsError(f"cannot use --glibc {glibc}: it is no version", hint="for example --glibc 2.36")
    machine = read_machine(hardware) if hardware is not None else detect(SystemProbe.real())
    engines = engines_on_this_machine(resolved, source.root) if hardware is None else None
    try:
        offer = find_offer(source, host_of(machine, glibc), version=version, backend=backend)
    except FetchError as error:
        if hardware is not None or version is not None:
            raise
        session.say(f"note: {error.message}")
        session.say(f"hint: {error.hint}")
        offer = None
    return listed(session, engines, offer, machine)


@command.command("install", epilog="Example: qwenctl engine install --backend vulkan")
@common
@click.argument("version", required=False, metavar="[VERSION]")
@BACKEND
@click.option(
    "--from",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Install this archive instead of downloading one. For CUDA give the archive of its runtime "
    "libraries (cudart-...) with a second --from.",
)
@click.option("--sha256", metavar="HEX", help="The digest that the archive must have.")
@click.option("--yes", is_flag=True, help="Install a file that nobody vouches for without asking.")
@click.option("--no-use", is_flag=True, help="Only install it: what is used stays the same.")
@click.pass_obj
def install(
    session: Session,
    /,
    version: str | None,
    backend: str | None,
    files: tuple[Path, ...],
    sha256: str | None,
    **switches: bool,
) -> Result:
    """Install the official build of llama.cpp that suits this machine, try it, and use it.

    VERSION is a release (b11476, v0.5.0). Default: the newest. A daemon that runs changes over once the new
    engine has generated a token with the real model; else the old one stays.
    """
    resolved, source = _source(session)
    digest = _digest(sha256)
    if files:
        if version is not None or backend is not None:
            raise SettingsError(
                "cannot use --from with a version or --backend: the file is what it is",
                hint="leave the other one out",
            )
        engine = install_files(session, source, files, digest, _host(), yes=switches["yes"])
    else:
        offer = find_offer(source, _host(), version=version, backend=backend)
        return install_and_use(
            session, resolved.settings, source, offer, sha256=digest, use=not switches["no_use"]
        )
    if switches["no_use"]:
        return Result(data_of(engine) | {"changed": True, "used": False}, f"installed {engine.name}")
    return use_engine(session, resolved.settings, source, engine, proved=True)


@command.command("use", epilog="Example: qwenctl engine use b11476-cuda-12.8")
@common
@click.argument("name", metavar="NAME")
@click.pass_obj
def use(session: Session, name: str) -> Result:
    """Use an installed engine from now on. It is tried first; a running daemon changes over to it."""
    resolved, source = _source(session)
    return use_engine(session, resolved.settings, source, engine_named(source.root, name))


@command.command("update", epilog="Example: qwenctl engine update")
@common
@click.pass_obj
def update(session: Session) -> Result:
    """Install and use the newest build of the kind that is in use. The one before it stays, older ones go."""
    resolved, source = _source(session)
    current = chosen(source.root).current
    if current is None:
        raise QwenctlError(
            "cannot update: no installed engine is in use", hint="qwenctl engine install installs one"
        )
    engine = engine_named(source.root, current)
    backend = engine.build.backend if engine.build.backend in BACKENDS else None
    offer = find_offer(source, _host(), backend=backend)
    if offer.note:
        raise FetchError(f"cannot update: {offer.note}", hint="run it again when the network is back")
    if not is_newer(offer.build.tag, engine.build.tag):
        return Result(data_of(engine) | {"changed": False}, f"{current} is already the newest")
    there = read_engine(source.root, offer.build.name)
    if there is not None and there.refused and there.build.sha256 == offer.build.asset.sha256:
        raise QwenctlError(
            f"cannot update to {there.name}: it did not work here: {short_reason(there.refused)}",
            hint=f"qwenctl engine use {there.name} tries it again",
        )
    result = install_and_use(session, resolved.settings, source, offer)
    left = superfluous(source.root, in_force(source.root))
    drop(source.root, left)
    for name in left:
        session.say(f"removed {name}")
    data = result.data if isinstance(result.data, dict) else {}
    return Result(data | {"removed": list(left)}, result.text)


@command.command("rollback", epilog="Example: qwenctl engine rollback")
@common
@click.pass_obj
def rollback(session: Session) -> Result:
    """Use the engine again that was in use before."""
    resolved, source = _source(session)
    previous = chosen(source.root).previous
    if previous is None:
        raise QwenctlError(
            "cannot roll back: no engine was in use before this one",
            hint="qwenctl engine list shows them all",
        )
    return use_engine(session, resolved.settings, source, engine_named(source.root, previous))


@command.command("remove", epilog="Example: qwenctl engine remove b11400-vulkan")
@common
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.pass_obj
def remove(session: Session, names: tuple[str, ...]) -> Result:
    """Remove installed engines. The one in use, and the one that a daemon serves with, stay."""
    _, source = _source(session)
    engines = tuple(dict.fromkeys(engine_named(source.root, name).name for name in names))
    used = in_force(source.root) | {chosen(source.root).current}
    for name in engines:
        if name in used:
            raise QwenctlError(
                f"cannot remove {name}: it is in use", hint="qwenctl engine use takes another one first"
            )
    drop(source.root, engines)
    return Result({"changed": True, "removed": list(engines)}, f"removed {', '.join(engines)}")


def _source(session: Session) -> tuple[ResolvedSettings, EngineSource]:
    resolved = pipeline.resolve_without_model(request(session, {}))
    return resolved, source_of(resolved.settings, paths.engines_dir(), paths.cache_dir())


def _host() -> EngineHost:
    return host_of(detect(SystemProbe.real()))


def _digest(text: str | None) -> str | None:
    """Return the digest that a person gave, in lower case.

    Raises:
        SettingsError: it is none.
    """
    if text is None:
        return None
    digest = text.strip().lower().removeprefix("sha256:")
    if len(digest) != 64 or not all(letter in "0123456789abcdef" for letter in digest):
        raise SettingsError(f"cannot use --sha256 {text[:70]}: it is not 64 hex digits")
    return digest
