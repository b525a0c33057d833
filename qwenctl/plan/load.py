"""Read profiles from TOML: the shipped ones and a person's own. Reads files; decides nothing."""

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from qwenctl.errors import ProfileError
from qwenctl.plan.profile import Profile


@dataclass(frozen=True, slots=True)
class Found:
    """A profile file and where it lies. A person's own wins over a shipped one of the same name."""

    name: str
    path: Path
    origin: Literal["shipped", "own"]


def find_profiles(shipped: Path, own: Path) -> tuple[Found, ...]:
    """Return every profile file by name, sorted."""
    found = {path.stem: Found(path.stem, path, "shipped") for path in shipped.glob("*.toml")}
    found |= {path.stem: Found(path.stem, path, "own") for path in own.glob("*.toml")}
    return tuple(found[name] for name in sorted(found))


def load_profile(name: str, shipped: Path, own: Path) -> Profile:
    """Return the profile of that name.

    Raises:
        ProfileError: no such profile, or its file is invalid.
    """
    known = {found.name: found for found in find_profiles(shipped, own)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known profiles: {', '.join(known)}"
        raise ProfileError(f"cannot find profile {name!r}: no such file in {shipped} or {own}", hint=hint)
    return read_profile(known[name].path)


def read_profile(path: Path) -> Profile:
    """Return the profile in ``path``.

    Raises:
        ProfileError: the file cannot be read, is no TOML, or says something a profile cannot say.
    """
    try:
        return Profile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"cannot read profile {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProfileError(f"cannot use profile {path}: {where}: {first['msg'].lower()}") from error
