"""The installed engines: one folder each, and which of them is in use.

    engines/
      b11500-cuda-12.8/     one build, unpacked; its name is unique
        build.json          what it is, and where it came from
        fault.json          why it did not work here, if it did not
        ...                 the archive's own files
      chosen.json           {"current": NAME, "previous": NAME}

A folder is written under a hidden name and renamed when it is whole, so a folder that can be seen is whole.
"""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from qwenctl.files import read_json, write_json

BUILD, REFUSED, CHOSEN = "build.json", "fault.json", "chosen.json"


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """What an installed engine is: the release's tag, the backend, the asset and its sha256, and its program.

    ``program`` is relative to the engine's folder. ``sha256`` is None for a file that a person gave.
    """

    tag: str
    backend: str
    asset: str
    sha256: str | None
    program: str


@dataclass(frozen=True, slots=True)
class InstalledEngine:
    """One engine of the store. ``refused`` says why it did not work here, if it did not."""

    name: str
    folder: Path
    build: EngineBuild
    refused: str | None = None

    @property
    def server(self) -> Path:
        """The llama-server program."""
        return self.folder / self.build.program


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """The names of the engine in use and of the one before it."""

    current: str | None = None
    previous: str | None = None


def installed(root: Path) -> tuple[InstalledEngine, ...]:
    """Return the engines in the store, by name. A folder without a readable ``build.json`` is none."""
    try:
        folders = sorted(each for each in root.iterdir() if not each.name.startswith("."))
    except OSError:
        return ()
    engines = (read_engine(root, each.name) for each in folders)
    return tuple(each for each in engines if each is not None)


def read_engine(root: Path, name: str) -> InstalledEngine | None:
    """Return the engine of that name; None if there is none."""
    folder = root / name
    match read_json(folder / BUILD):
        case {"tag": str(tag), "backend": str(backend), "asset": str(asset), "program": str(program), **rest}:
            sha256 = rest.get("sha256")
            build = EngineBuild(tag, backend, asset, sha256 if isinstance(sha256, str) else None, program)
        case _:
            return None
    why = (read_json(folder / REFUSED) or {}).get("why")
    return InstalledEngine(name, folder, build, why if isinstance(why, str) else None)


def write_build(folder: Path, build: EngineBuild) -> None:
    """Say what the engine in ``folder`` is.

    Raises:
        OSError: the file cannot be written.
    """
    write_json(folder / BUILD, asdict(build))


def chosen(root: Path) -> ChosenEngine:
    """Return which engines are in use and were in use before; names without a folder count as none."""
    table = read_json(root / CHOSEN) or {}
    names = (table.get("current"), table.get("previous"))
    current, previous = (
        name if isinstance(name, str) and read_engine(root, name) is not None else None for name in names
    )
    return ChosenEngine(current, previous)


def choose(root: Path, choice: ChosenEngine) -> None:
    """Keep which engines are in use and were in use before.

    Raises:
        OSError: the file cannot be written.
    """
    write_json(root / CHOSEN, asdict(choice))


def refuse(root: Path, name: str, why: str) -> None:
    """Keep that the engine did not work here, so that nothing but a person's ``engine use`` tries it again.

    Raises:
        OSError: the file cannot be written.
    """
    write_json(root / name / REFUSED, {"why": why})


def forgive(root: Path, name: str) -> None:
    """Forget why the engine was refused.

    Raises:
        OSError: the file cannot be removed.
    """
    (root / name / REFUSED).unlink(missing_ok=True)


def remove(root: Path, name: str) -> None:
    """Remove an engine: first its name, then its files, so that a kill leaves no half of it to be seen.

    Raises:
        OSError: the folder cannot be renamed or removed.
    """
    hidden = root / f".removed-{name}"
    shutil.rmtree(hidden, ignore_errors=True)
    (root / name).rename(hidden)
    shutil.rmtree(hidden)
