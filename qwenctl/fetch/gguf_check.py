"""Check that a file is a complete GGUF of the wanted architecture. Reads headers, never the weights."""

import stat
from dataclasses import dataclass
from pathlib import Path

from qwenctl.errors import FetchError
from qwenctl.fetch.request import Artifact, ArtifactFile
from qwenctl.files import reason
from qwenctl.model.from_gguf import other_kind
from qwenctl.model.gguf_header import Header, TruncatedHeaderError, read_header
from qwenctl.model.gguf_name import shards

INCOMPLETE = "the file is incomplete; download it again"
NOT_GGUF = "name a model in a GGUF file"


@dataclass(frozen=True, slots=True)
class ModelParts:
    """A model on this machine: the header and the size of each part."""

    headers: tuple[Header, ...]
    files: tuple[ArtifactFile, ...]


def check_gguf(path: Path, architecture: str | None = None) -> Header:
    """Check a GGUF file, with its other parts beside it if it is split, and return its (first) header.

    Raises:
        FetchError: a part is missing, unreadable, no GGUF, shorter than its tensors, no model (a projector,
            an adapter, a vocabulary), or of another architecture.
    """
    return read_parts(path, architecture)[0]


def read_model(path: Path) -> ModelParts:
    """Return the headers of a model, checked, and its files.

    Raises:
        FetchError: as ``check_gguf``.
    """
    headers = read_parts(path)
    parts = [path.with_name(name) for name in shards(path.name)]
    return ModelParts(
        headers, tuple(ArtifactFile(part.name, part, part.stat().st_size, None) for part in parts)
    )


def read_parts(path: Path, architecture: str | None = None) -> tuple[Header, ...]:
    """Return the headers of all parts of a GGUF file, checked.

    Raises:
        FetchError: as ``check_gguf``.
    """
    names = shards(path.name)
    if names[0] != path.name:
        raise FetchError(f"cannot use {path}: it is a later part of {names[0]}", hint="name the first part")
    headers = tuple(check_part(path.with_name(name), architecture) for name in names)
    first = headers[0]
    if (count := first.number("split.count") or 1) != len(names):
        raise FetchError(
            f"cannot use {path}: it is one of {count} parts, its name says {len(names)}",
            hint="keep the names the parts were published under",
        )
    tensors = sum(len(header.tensors) for header in headers)
    if (promised := first.number("split.tensors.count") or tensors) != tensors:
        raise FetchError(f"cannot use {path}: its parts hold {tensors} tensors, its header lists {promised}")
    return headers


def check_part(path: Path, architecture: str | None = None, name: str | None = None) -> Header:
    """Check one file by itself and return its header. ``name`` stands for the path in messages.

    Raises:
        FetchError: see ``check_gguf``.
    """
    label = name or str(path)
    try:
        size, header = _size_and_header(path)
    except OSError as error:
        hint = NOT_GGUF if isinstance(error, IsADirectoryError) else None
        raise FetchError(f"cannot read {label}: {reason(error)}", hint=hint) from error
    except FetchError as error:
        cause = error.message.removeprefix("cannot read GGUF header: ")
        hint = INCOMPLETE if isinstance(error, TruncatedHeaderError) else NOT_GGUF
        raise FetchError(f"cannot use {label}: no valid GGUF header: {cause}", hint=hint) from error
    _check_kind(label, header, architecture)
    for tensor in header.tensors:
        end = header.data_offset + tensor.offset + (tensor.bytes or 0)
        if tensor.offset % header.alignment:
            raise FetchError(
                f"cannot use {label}: tensor {tensor.name!r} starts at odd offset {tensor.offset}"
            )
        if end > size:
            raise FetchError(
                f"cannot use {label}: tensor {tensor.name!r} ends at byte {end}, the file at {size}",
                hint=INCOMPLETE,
            )
    return header


def _size_and_header(path: Path) -> tuple[int, Header]:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise FetchError("it is no regular file")  # one would wait for a pipe
    with path.open("rb") as file:
        return found.st_size, read_header(file.read)


def _check_kind(label: str, header: Header, wanted: str | None) -> None:
    if header.number("split.no"):  # only the first part carries the model's keys
        return
    if (kind := other_kind(header)) is not None:
        raise FetchError(f"cannot use {label}: it is {kind.what}", hint=kind.hint)
    if header.architecture is None:
        raise FetchError(f"cannot use {label}: its header names no architecture")
    if wanted is not None and header.architecture != wanted:
        raise FetchError(
            f"cannot use {label}: its architecture is {header.architecture!r}, the profile's is {wanted!r}",
            hint="choose the profile of this model, or another file",
        )


def local_artifact(path: Path, architecture: str | None = None) -> Artifact:
    """Return a file, with its other parts if it is split, once it is checked as a GGUF. Blocks.

    Its hash is not taken: there is nothing to compare it with.

    Raises:
        FetchError: it is missing, unreadable, no whole GGUF, or another architecture.
    """
    path = path.expanduser().absolute()
    check_gguf(path, architecture)
    parts = [path.with_name(name) for name in shards(path.name)]
    return Artifact(files=tuple(ArtifactFile(part.name, part, part.stat().st_size, None) for part in parts))
