"""Say what the name of a GGUF file means: its model, its quant, which part of a split it is. Pure: no I/O.

A name is what a publisher wrote, so it is judged by the usual spellings: ``Model-Q4_K_M.gguf``,
``model.i1-IQ4_XS.gguf``, ``UD-Q8_K_XL/Model-UD-Q8_K_XL-00001-of-00002.gguf``, ``qwen-7b-q4_k_m.gguf``.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["model", "projector", "mtp", "draft", "imatrix", "vocabulary", "adapter", "unusable"]

SHARD = re.compile(r"^(?P<stem>.+)-(?P<no>\d{5})-of-(?P<count>\d{5})\.gguf$")
"""Name of one part of a split file. Source: llama.cpp llama_split_path, "%s-%05d-of-%05d.gguf"."""

_START, _END = r"(?:^|(?<=[-_. ]))", r"(?=$|[-_. ])"
_SIZE = r"(?:XXS|XXL|XS|XL|S|M|L)"
_QUANT = re.compile(
    rf"{_START}(?P<prefix>UD|i1)?(?(prefix)[-_.])"
    r"(?P<quant>"
    r"IQ\d[-_]?K(?:SS|S|T|L)?"  # types of another engine, ik_llama.cpp
    rf"|Q\d[-_]?K(?:[-_]?{_SIZE})?"
    rf"|IQ\d[-_]?(?:NL|{_SIZE})(?:[-_]XL)?"
    r"|T?Q\d[-_]\d(?:[-_][48][-_][48]|[-_]XL)?"
    r"|MXFP4(?:[-_]MOE)?|NVFP4"
    r"|BF16|FP16|F16|FP32|F32"
    rf"){_END}",
    re.IGNORECASE,
)
_FLOATS = {"FP16": "F16", "FP32": "F32", "F16": "F16", "F32": "F32", "BF16": "BF16"}
_OTHER_ENGINE = re.compile(r"IQ\d_K\w*")
"""Types that only ik_llama.cpp knows: IQ4_KS, IQ5_K."""
_PIECE = re.compile(r"\.gguf\.part\d+of\d+$|\.gguf-split-[a-z]$", re.IGNORECASE)
"""A file cut by a tool that knows no GGUF: only joined it is a model."""


@dataclass(frozen=True, slots=True)
class GgufName:
    """What a file's name says. ``quant`` is None where it names none, ``part`` and ``parts`` count from 1."""

    kind: Kind
    model: str
    quant: str | None
    part: int = 1
    parts: int = 1


def shards(name: str) -> tuple[str, ...]:
    """Return the names of all parts ``name`` belongs to, just ``name`` for a file that is whole."""
    match = SHARD.match(name)
    if match is None or not 1 <= int(match["no"]) <= int(match["count"]):
        return (name,)
    count = int(match["count"])
    return tuple(f"{match['stem']}-{no:05d}-of-{count:05d}.gguf" for no in range(1, count + 1))


def read_name(name: str) -> GgufName | None:
    """Return what the name of a file in a repository says; None if it is the name of no GGUF file."""
    path = PurePosixPath(name)
    if _PIECE.search(path.name):
        stem = _PIECE.sub("", path.name)
        return GgufName("unusable", *_model_and_quant(stem, path))
    if not path.name.lower().endswith((".gguf", ".gguf_file")):
        return GgufName("imatrix", path.stem, None) if "imatrix" in path.name.lower() else None
    shard = SHARD.match(path.name)
    stem = shard["stem"] if shard else path.name.rsplit(".", 1)[0]
    model, quant = _model_and_quant(stem, path)
    part, parts = (int(shard["no"]), int(shard["count"])) if shard else (1, 1)
    return GgufName(_kind(path, quant), model, quant, part, parts)


def quant_in(name: str) -> str | None:
    """Return the quant that a file's name or its folder's names, in the usual spelling; None without one."""
    found = read_name(name)
    return None if found is None else found.quant


def is_other_engines(quant: str) -> bool:
    """Whether llama.cpp has no such type: ik_llama.cpp made it."""
    return _OTHER_ENGINE.fullmatch(quant) is not None


def _model_and_quant(stem: str, path: PurePosixPath) -> tuple[str, str | None]:
    """Return the model's name without its quant, and the quant.

    A name may have two: ``model-Q8_0-f16`` keeps some tensors at 16 bits. The quant is the last one that is
    no float, else the last one. The folder counts only where the file's own name has none.
    """
    found = _last(stem)
    if found is not None:
        model = stem[: found.start()].rstrip("-_. ") + stem[found.end() :]
        return model.strip("-_. ") or path.parent.name, _spelling(found)
    folder = _last(path.parent.name)
    return stem, None if folder is None else _spelling(folder)


def _last(text: str) -> re.Match[str] | None:
    matches = list(_QUANT.finditer(text))
    quantized = [match for match in matches if match["quant"].upper() not in _FLOATS]
    return next(reversed(quantized or matches), None)


def _spelling(match: re.Match[str]) -> str:
    """Return a quant as llama-quantize writes it: ``q4-k-m`` and ``Q4KM`` are ``Q4_K_M``."""
    letters = re.sub(r"[-_]", "", match["quant"].upper())
    name = _FLOATS.get(letters) or _with_underscores(letters)
    prefix = match["prefix"]
    return name if prefix is None else f"{'UD' if prefix.upper() == 'UD' else 'i1'}-{name}"


def _with_underscores(letters: str) -> str:
    if letters.startswith(("MXFP4", "NVFP4")):
        return letters.replace("MOE", "_MOE")
    head = re.match(r"I?Q\d|TQ\d", letters)
    rest = letters[head.end() :] if head else ""
    if head is None or not rest:
        return letters
    if rest.startswith("K") and not letters.startswith("I"):
        return f"{head[0]}_K" + (f"_{rest[1:]}" if len(rest) > 1 else "")
    if rest[0].isdigit():
        tail = "_XL" if rest.endswith("XL") else ""
        return f"{head[0]}_" + "_".join(rest.removesuffix("XL")) + tail
    return f"{head[0]}_{rest}" if rest != "NLXL" else f"{head[0]}_NL_XL"


def _kind(path: PurePosixPath, quant: str | None) -> Kind:
    """Return what a file is for.

    Source of the marks: what ``-hf`` leaves out, llama.cpp b11434, common/download.cpp.
    """
    name, folder = path.name.lower(), path.parent.name.lower()
    words = set(re.split(r"[-_. ]+", name))
    quantized = quant is not None and quant not in _FLOATS.values()
    if "mmproj" in name:
        return "projector"
    if "imatrix" in words and not quantized:
        return "imatrix"
    if "vocab" in words:
        return "vocabulary"
    if words & {"draft", "eagle3", "dflash", "dspark"}:
        return "draft"
    if "mtp" in words or folder == "mtp":
        return "mtp"
    if words & {"lora", "adapter"} and not quantized and "merged" not in words:
        return "adapter"
    return "unusable" if quant is not None and is_other_engines(quant) else "model"
