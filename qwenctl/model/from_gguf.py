"""Make a profile from the header of a GGUF file, and say what is no model to serve. Pure: no I/O."""

import difflib
import re
from dataclasses import dataclass
from math import prod

from pydantic import ValidationError

from qwenctl.errors import FetchError
from qwenctl.model.architecture import Architecture, architecture_of
from qwenctl.model.families import GENERAL, preset, presets_of, same_for_all
from qwenctl.model.gguf_header import TEMPLATE, Header, Skipped
from qwenctl.model.gguf_name import quant_in
from qwenctl.model.layers import same_shape
from qwenctl.model.name import quant_key
from qwenctl.model.profile import File, Profile, Quant, SamplingPreset
from qwenctl.model.tensor_sizes import sizes_of

# Source: llama.cpp b11434, include/llama.h, enum llama_ftype; 1024 marks a guessed one.
_TYPES = """
    0 F32 1 F16 2 Q4_0 3 Q4_1 7 Q8_0 8 Q5_0 9 Q5_1 10 Q2_K 11 Q3_K_S 12 Q3_K_M 13 Q3_K_L 14 Q4_K_S 15 Q4_K_M
    16 Q5_K_S 17 Q5_K_M 18 Q6_K 19 IQ2_XXS 20 IQ2_XS 21 Q2_K_S 22 IQ3_XS 23 IQ3_XXS 24 IQ1_S 25 IQ4_NL
    26 IQ3_S 27 IQ3_M 28 IQ2_S 29 IQ2_M 30 IQ4_XS 31 IQ1_M 32 BF16 36 TQ1_0 37 TQ2_0 38 MXFP4_MOE 39 NVFP4
    40 Q1_0 41 Q2_0
    """.split()
FILE_TYPES = {int(number): name for number, name in zip(_TYPES[::2], _TYPES[1::2], strict=True)}
GUESSED = 1024
OTHER_NAMES = """
    Q2_K_L Q3_K_XL Q4_K_L Q4_K_XL Q5_K_L Q5_K_XL Q6_K_L Q6_K_XL Q8_K_XL Q2_K_XL IQ4_K MXFP4
    """.split()
"""Names that publishers gave to mixtures of their own."""
QUANT_KEYS = frozenset(
    quant_key(prefix + name) for prefix in ("", "UD-", "i1-") for name in (*FILE_TYPES.values(), *OTHER_NAMES)
)
SPLIT = re.compile(r"-\d{5}-of-\d{5}$")
# Source: llama.cpp b11434, general.sampling.* in src/llama-arch.cpp, read by common/common.cpp.
SAMPLING_KEYS = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repeat_penalty",
}
SWITCHES = ("enable_thinking", "preserve_thinking", "reasoning_effort")
"""What a chat template can read about thinking. Source: llama.cpp b11434, common/jinja/caps.cpp."""
ENCODERS = frozenset(
    """
    bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 eurobert gemma-embedding
    t5encoder llama-embed
    """.split()
)
"""Architectures that generate no text. Source: llama.cpp b11434, src/llama-arch.cpp."""
BASE_MODEL = "a base model: it continues text, it has no chat template"
LONGEST_TITLE = 80


@dataclass(frozen=True, slots=True)
class OtherKind:
    """What a GGUF file is, if it is no model that can be served, and what would help."""

    what: str
    hint: str


def other_kind(header: Header) -> OtherKind | None:
    """Return what the file of this header is instead of a model; None for a model."""
    kind, architecture = header.text("general.type"), header.architecture
    if kind == "mmproj" or architecture == "clip":
        return OtherKind("a projector (it turns images into tokens)", "name the model file beside it")
    if kind == "adapter" or architecture == "controlvector":
        return OtherKind(
            "an adapter (LoRA)", 'name its base model, and [server] extra_args = ["--lora", FILE]'
        )
    if kind == "imatrix" or "imatrix.chunk_count" in header.keys:
        return OtherKind("an importance matrix", "name the model that was quantized with it")
    if architecture in ENCODERS:
        return OtherKind("an embedding model: it generates no text", "name a model that generates text")
    if architecture is not None and not header.tensors and (header.number("split.count") or 1) == 1:
        return OtherKind("a vocabulary without weights", "name a model file")
    return None


def profile_from_gguf(
    headers: tuple[Header, ...], files: tuple[File, ...], known: tuple[Profile, ...], named: str | None = None
) -> Profile:
    """Return the profile of a file, given the headers and sizes of all its parts.

    A known profile of the same shape lends its presets, settings and notes. ``named`` is the profile that a
    person named beside the file: it must have the shape, else the file is planned as what it is and says so.

    Raises:
        FetchError: the header lacks what every model has.
    """
    first = headers[0]
    try:
        architecture = architecture_of(first)
        quant = quant_of(headers, files)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise FetchError(f"cannot use the file: {where} in its header: {fault['msg'].lower()}") from error
    shaped = [one for one in known if same_shape(one.architecture, architecture)]
    asked = next((one for one in known if one.name == named), None)
    template = first.keys.get(TEMPLATE)
    notes = [] if template is not None else [BASE_MODEL]
    if asked is not None and asked not in shaped:
        notes.append(f"the file is not {asked.title}: its architecture differs from that profile's")
    lender = asked if asked in shaped else _nearest(shaped, title_of(first, files[0].name))
    switches = switches_of(template)
    if lender is None:
        return _made(first, architecture, quant, files, notes, switches)
    return _lent(lender, first, architecture, quant, files, notes, switches, asked=lender is asked)


def title_of(header: Header, file: str) -> str:
    """Return what the model calls itself, else the name of its file. Printable, and of a bounded length."""
    parts = (header.text("general.basename"), header.text("general.size_label"))
    title = header.text("general.name") or " ".join(part for part in parts if part) or stem(file)
    return "".join(letter for letter in title if letter.isprintable())[:LONGEST_TITLE].strip() or stem(file)


def stem(file: str) -> str:
    """Return the name of a file without folder, ending and number of the part; no blanks, no commas."""
    name = file.rsplit("/", maxsplit=1)[-1]
    name = SPLIT.sub("", name[:-5] if name.lower().endswith(".gguf") else name)
    return re.sub(r"[\s,]+", "-", "".join(c for c in name if c.isprintable())) or "model"


def quant_of(headers: tuple[Header, ...], files: tuple[File, ...]) -> Quant:
    """Return the one quant that a file holds, with its real sizes."""
    sizes = sizes_of(headers)
    values = sum(prod(tensor.dims) for header in headers for tensor in header.tensors)
    content = sum(file.bytes for file in files) if sizes.unknown else sizes.total_bytes
    return Quant(
        name=quant_name(headers[0], files[0].name),
        files=files,
        token_embd_bytes=max(1, sizes.token_embd_bytes),
        other_input_bytes=sizes.other_input_bytes,
        output_bytes=sizes.output_bytes or None,
        layer_bytes=sizes.layer_bytes,
        bits_per_weight=max(0.01, round(8 * content / max(1, values), 2)),
        source="the file's own header",
    )


def quant_name(header: Header, file: str) -> str:
    """Return the name of a file's quant.

    Publishers have names of their own (UD-Q4_K_XL, Q4_K_L); such a name of a file counts. A name that
    llama.cpp knows is the header's, whatever the file is called.
    """
    number = header.number("general.file_type")
    by_header = None if number is None else FILE_TYPES.get(number & ~GUESSED)
    by_name = quant_in(file)
    own = by_name is not None and by_name not in FILE_TYPES.values()
    return (by_name if own or by_header is None else by_header) or _commonest_type(header)


def is_quant_name(name: str) -> bool:
    """Say whether some publisher calls a quant so, letter case and punctuation aside."""
    return quant_key(name) in QUANT_KEYS


def switches_of(template: object) -> tuple[str, ...]:
    """Return what the chat template reads about thinking. One too long to be kept is taken to read all."""
    if isinstance(template, Skipped):
        return SWITCHES
    return tuple(one for one in SWITCHES if isinstance(template, str) and one in template)


def _commonest_type(header: Header) -> str:
    types: dict[str, int] = {}
    for tensor in header.tensors:
        types[tensor.type_name] = types.get(tensor.type_name, 0) + prod(tensor.dims)
    return max(types, key=lambda name: types[name], default="unknown")


def _nearest(profiles: list[Profile], title: str) -> Profile | None:
    """Return the profile whose title is most like this one: models of two names may share a shape."""
    return max(
        profiles,
        key=lambda one: difflib.SequenceMatcher(None, one.title.lower(), title.lower()).ratio(),
        default=None,
    )


def _made(
    header: Header,
    architecture: Architecture,
    quant: Quant,
    files: tuple[File, ...],
    notes: list[str],
    switches: tuple[str, ...],
) -> Profile:
    return Profile(
        schema=1,
        name=stem(files[0].name),
        title=title_of(header, files[0].name),
        note="; ".join(notes) or None,
        made=True,
        architecture=architecture,
        quants=(quant,),
        sampling=_sampling(header, files[0].name),
        thinking=switches,
    )


def _lent(  # noqa: PLR0913 - what a profile is made of
    lender: Profile,
    header: Header,
    architecture: Architecture,
    quant: Quant,
    files: tuple[File, ...],
    notes: list[str],
    switches: tuple[str, ...],
    *,
    asked: bool,
) -> Profile:
    """Return the file's own profile with the presets and the advice of one of the same shape."""
    twin = lender.quant(quant.name)
    if twin is not None:
        advice = {"note": twin.note, "kl_divergence": twin.kl_divergence}
        quant = quant.model_copy(update=advice)
    return lender.model_copy(
        update={
            "name": lender.name if asked else stem(files[0].name),
            "title": lender.title if asked else title_of(header, files[0].name),
            "note": "; ".join([*([lender.note] if lender.note else []), *notes]) or None,
            "made": True,
            "generated": False,
            "hub": None,
            "mtp": None,
            "vision": None,
            "architecture": architecture,
            "quants": (quant,),
            "rows": (),
            "speeds": lender.speeds if twin is not None else (),
            "thinking": switches,
        }
    )


def _sampling(header: Header, file: str) -> dict[str, SamplingPreset]:
    """Return the presets of the family, else the header's own numbers, else llama-server's."""
    keys = ("general.name", "general.basename", "general.finetune", "general.base_model.0.name")
    names = " ".join((stem(file), *(header.text(key) or "" for key in keys)))
    family = presets_of(header.architecture or "", names)
    if family is not None:
        return family
    own: dict[str, float] = {}
    for key, name in SAMPLING_KEYS.items():
        value = header.keys.get(f"general.sampling.{key}")
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
            own[name] = int(value) if name == "top_k" else round(float(value), 6)
    return same_for_all(preset(own, "the file's own header, general.sampling") if own else GENERAL)
