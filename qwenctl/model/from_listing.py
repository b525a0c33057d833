"""Make quants from the files of a repository. Pure: no I/O.

Two steps, because a name needs no header and a size in memory does. 1. ``repository_of``: which files belong
together, and what each is for. 2. ``quants_of``: the models as quants of a profile, once one header gave the
architecture.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from qwenctl.model.architecture import Architecture
from qwenctl.model.gguf_name import GgufName, Kind, read_name, shards
from qwenctl.model.name import quant_key
from qwenctl.model.profile import File, Profile, Quant
from qwenctl.model.quant_bits import embedding_bytes, nominal_bits

POOR_BITS, FLOAT_BITS = 3.0, 15.0
"""Quants below and above are used only if a person names them: too poor, or twice the size for nothing."""
USUAL = ("Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "i1-Q4_K_M", "IQ4_XS", "Q4_0", "MXFP4", "Q8_0")
"""Whose header is read first: most likely it is the one that will be served."""


class ListedFile(Protocol):
    """A file of a repository, as the hub lists it."""

    @property
    def name(self) -> str:
        """Its path in the repository."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def sha256(self) -> str | None:
        """Its hash, where the hub lists one."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One file, or the parts of one in their order. ``missing``: names of parts that the repository lacks."""

    kind: Kind
    model: str
    quant: str | None
    files: tuple[File, ...]
    missing: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What a person types for it."""
        return self.quant or PurePosixPath(self.files[0].name).name

    @property
    def bytes(self) -> int:
        """Size of all its parts."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class RepositoryFiles:
    """The GGUF files of a repository. ``models`` can be served; the others go with them or are unusable."""

    models: tuple[ListedModel, ...]
    others: tuple[ListedModel, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its different models; most repositories have one."""
        return tuple(dict.fromkeys(quant_key(listed.model) for listed in self.models))

    def of_kind(self, kind: Kind) -> tuple[ListedModel, ...]:
        """Return the companions of one kind: projectors, say."""
        return tuple(listed for listed in self.others if listed.kind == kind)

    def find(self, wanted: str) -> tuple[ListedModel, ...]:
        """Return the models that a quant or a file name stands for: one, none, or several to choose from.

        Case and punctuation do not matter. ``Q4_K_M`` is also ``i1-Q4_K_M`` and ``UD-Q4_K_M`` where the
        repository has no other.
        """
        key = quant_key(wanted.removesuffix(".gguf"))
        files = tuple(
            listed
            for listed in (*self.models, *self.others)
            if any(key in (quant_key(name), quant_key(PurePosixPath(name).name)) for name in _names(listed))
        )
        if files:
            return files
        exact = tuple(listed for listed in self.models if quant_key(listed.quant or "") == key)
        return exact or tuple(
            listed
            for listed in self.models
            if re.sub(r"^(?:ud|i1)(?=i?q|t?q|mx|nv|bf|f)", "", quant_key(listed.quant or "")) == key
        )


def repository_of(files: Iterable[ListedFile]) -> RepositoryFiles:
    """Return the GGUF files of a repository, parts joined, what is no model apart.

    Files with a prediction block (MTP) count as models only where the repository has no others.
    """
    listed = {file.name: File(name=file.name, bytes=file.bytes, sha256=file.sha256) for file in files}
    groups: dict[tuple[str, ...], GgufName] = {}
    for name in sorted(listed):
        found = read_name(name)
        if found is not None:
            folder = PurePosixPath(name).parent
            group = tuple(str(folder / part) for part in shards(PurePosixPath(name).name))
            groups.setdefault(group, found)
    everything = [
        ListedModel(
            found.kind,
            found.model,
            found.quant,
            tuple(listed[name] for name in group if name in listed),
            tuple(name for name in group if name not in listed),
        )
        for group, found in groups.items()
    ]
    kind: Kind = "model" if any(one.kind == "model" for one in everything) else "mtp"
    models = [one for one in everything if one.kind == kind and not one.missing]
    others = [one for one in everything if one not in models]
    return RepositoryFiles(tuple(sorted(models, key=_rank)), tuple(others))


def first_header(repository: RepositoryFiles) -> ListedModel | None:
    """Return the model whose header to read for the architecture, None where nothing can be served."""
    usual = {quant_key(name): place for place, name in enumerate(reversed(USUAL), 1)}
    return max(
        repository.models,
        key=lambda one: (usual.get(quant_key(one.quant or ""), 0), -one.bytes),
        default=None,
    )


def quants_of(
    models: Iterable[ListedModel],
    architecture: Architecture,
    parameters: int | None = None,
    divergences: Mapping[str, float] | None = None,
) -> tuple[Quant, ...]:
    """Return models as quants of a profile, from the best to the poorest.

    ``parameters`` gives the bits a weight; without it they are the usual ones of the quant's name. Where the
    sizes of single tensors are estimated from the name, the quant is marked so.
    """
    known = divergences or {}
    quants = []
    for listed in models:
        bits = _bits(listed, parameters)
        embedding, output = embedding_bytes(listed.quant, bits, architecture)
        quants.append(
            Quant(
                name=listed.label,
                files=listed.files,
                token_embd_bytes=min(embedding, listed.bytes),
                output_bytes=None if output is None else min(output, listed.bytes),
                bits_per_weight=bits,
                kl_divergence=known.get(listed.label),
                named_only=not POOR_BITS <= bits < FLOAT_BITS,
                estimated=True,
                source="the repository's listing; token_embd and output as llama-quantize makes them",
            )
        )
    if all(quant.named_only for quant in quants):
        quants = [quant.model_copy(update={"named_only": False}) for quant in quants]
    return _without_doubles(in_order(quants))


def in_order(quants: Iterable[Quant]) -> tuple[Quant, ...]:
    """Return quants from the best to the poorest: by bits a weight, and by divergence where it is known.

    Those with a known divergence share the places that their bits give them, the smallest divergence first.
    """
    by_bits = sorted(quants, key=lambda quant: -quant.bits_per_weight)
    measured = iter(
        sorted(
            (quant for quant in by_bits if quant.kl_divergence is not None),
            key=lambda quant: quant.kl_divergence or 0.0,
        )
    )
    return tuple(next(measured) if quant.kl_divergence is not None else quant for quant in by_bits)


def with_listing(profile: Profile, files: Iterable[ListedFile]) -> tuple[Profile, tuple[str, ...]]:
    """Return a profile with what its own repository lists at its own revision, and warnings.

    Quants that the profile lacks are added among its own by their bits a weight. The sizes and hashes of its
    own quants are completed. A file with another hash than the profile pins stays as the profile has it, and
    is a warning: a fetch would refuse it.
    """
    listed = {file.name: file for file in files}
    warnings: list[str] = []
    own = tuple(_confirmed(quant, listed, warnings) for quant in profile.quants)
    names = {file.name for quant in own for file in quant.files}
    taken = {quant_key(quant.name) for quant in own}
    repository = repository_of(listed.values())
    new = [
        one
        for one in repository.models
        if not names & {file.name for file in one.files} and quant_key(one.label) not in taken
    ]
    added = quants_of(new, profile.architecture, parameters_of(profile.quants)) if new else ()
    added = tuple(
        quant.model_copy(update={"named_only": not POOR_BITS <= quant.bits_per_weight < FLOAT_BITS})
        for quant in added
    )
    quants = list(own)
    for quant in added:
        place = next(
            (at for at, other in enumerate(quants) if other.bits_per_weight < quant.bits_per_weight),
            len(quants),
        )
        quants.insert(place, quant)
    return profile.model_copy(update={"quants": tuple(quants)}), tuple(warnings)


def parameters_of(quants: Iterable[Quant]) -> int | None:
    """Return the parameters that quants of known size and bits a weight stand for, None if there are none."""
    counts = sorted(round(quant.bytes * 8 / quant.bits_per_weight) for quant in quants if not quant.estimated)
    return counts[len(counts) // 2] if counts else None


def _confirmed(quant: Quant, listed: Mapping[str, ListedFile], warnings: list[str]) -> Quant:
    files = []
    for file in quant.files:
        found = listed.get(file.name)
        if found is None:
            warnings.append(f"{file.name} is not in the repository any more")
        elif file.sha256 is not None and found.sha256 is not None and file.sha256 != found.sha256:
            warnings.append(
                f"{file.name} has sha256 {found.sha256[:12]} in the repository, the profile pins"
                f" {file.sha256[:12]}"
            )
        elif file.sha256 is None and not quant.estimated and found.bytes != file.bytes:
            warnings.append(
                f"{file.name} has {found.bytes} bytes in the repository, the profile says {file.bytes}"
            )
        else:
            files.append(File(name=file.name, bytes=found.bytes, sha256=found.sha256 or file.sha256))
            continue
        files.append(file)
    return quant.model_copy(update={"files": tuple(files)})


def _bits(listed: ListedModel, parameters: int | None) -> float:
    if parameters:
        return round(listed.bytes * 8 / parameters, 3)
    return nominal_bits(listed.quant)


def _without_doubles(quants: tuple[Quant, ...]) -> tuple[Quant, ...]:
    """Give quants of one name, of several models say, the names of their files: a profile has each once."""
    counts: dict[str, int] = {}
    for quant in quants:
        counts[quant.name.lower()] = counts.get(quant.name.lower(), 0) + 1
    return tuple(
        quant if counts[quant.name.lower()] == 1 else quant.model_copy(update={"name": quant.files[0].name})
        for quant in quants
    )


def _rank(listed: ListedModel) -> tuple[str, int]:
    return quant_key(listed.model), -listed.bytes


def _names(listed: ListedModel) -> Iterable[str]:
    return (file.name.removesuffix(".gguf") for file in listed.files)
