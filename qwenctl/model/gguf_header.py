"""Read a GGUF header: keys, tensor infos, where the data begins.

Memory and time are bounded, whatever the bytes are. It uses no file system and no network: the caller passes
a function that returns the next bytes.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from qwenctl.errors import FetchError
from qwenctl.model.ggml import GGML_TYPES, tensor_bytes

Read = Callable[[int], bytes]
"""Return the next bytes, at most so many; empty at the end."""

MAGIC = b"GGUF"
VERSIONS = (2, 3)

# Source: the shipped 27B has 11 MB, 46 keys, 248,320 tokens and 851 tensors; each limit is far above that
# and far below what could hurt. The idea is huggingface.js's gguf reader's.
HEADER_BYTES = 64 * 2**20
KEYS = 4096
TENSORS = 65_536
ARRAY_ITEMS = 1_048_576
ARRAY_DEPTH = 3
NAME_BYTES = 65_535
STRING_BYTES = 16 * 2**20
KEPT_STRING_BYTES = 1024
KEPT_TEMPLATE_BYTES = 256 * 2**10  # gpt-oss' template, the longest in use, has 17 KB
TEMPLATE = "tokenizer.chat_template"
KEPT_ITEMS = 512  # one number for each layer; no model has so many
DIMS = 4  # GGML_MAX_DIMS
DIM = 2**32
ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
CHUNK_BYTES = 65_536

SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
STRING, ARRAY = 8, 9


class TruncatedHeaderError(FetchError):
    """The bytes end before the header does. With more bytes it may be complete."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A value too long to keep: an array of ``count`` items, or a text of ``count`` bytes."""

    count: int


Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...] | Skipped


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor info. ``offset`` counts from the start of the data; ``bytes`` is None for a new type."""

    name: str
    dims: tuple[int, ...]
    type: int
    offset: int
    bytes: int | None

    @property
    def type_name(self) -> str:
        """The name of the ggml type, or its number if it is newer than the table."""
        kind = GGML_TYPES.get(self.type)
        return kind.name if kind else str(self.type)


@dataclass(frozen=True, slots=True)
class Header:
    """Everything before the weights: keys and tensor infos."""

    version: int
    keys: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    alignment: int

    @property
    def architecture(self) -> str | None:
        """``general.architecture``. Only the later parts of a split file have none."""
        value = self.keys.get("general.architecture")
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """Return an integer key, None if it is missing or no integer."""
        value = self.keys.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, key: str) -> str | None:
        """Return a text key, None if it is missing, no text, or too long to be kept."""
        value = self.keys.get(key)
        return value if isinstance(value, str) else None

    @property
    def file_bytes(self) -> int:
        """The smallest size that a file with this header can have."""
        ends = (tensor.offset + (tensor.bytes or 0) for tensor in self.tensors)
        return self.data_offset + max(ends, default=0)


def read_header(read: Read) -> Header:
    """Read a header from its first byte on.

    Raises:
        TruncatedHeaderError: the bytes end too early.
        FetchError: they are no GGUF header, or the header exceeds the limits above.
    """
    cursor = _Cursor(read)
    if cursor.take(4) != MAGIC:
        raise _invalid("it does not begin with GGUF")
    version = cursor.u32()
    if version not in VERSIONS:
        if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
            raise _invalid("it is big-endian")
        raise _invalid(f"version {version} is not one of {', '.join(map(str, VERSIONS))}")
    tensors = cursor.count(TENSORS, "tensors")
    keys = _keys(cursor, cursor.count(KEYS, "keys"))
    alignment = keys.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or not 8 <= alignment <= 2**20 or alignment & (alignment - 1):
        raise _invalid(f"general.alignment is {alignment}")
    infos = _tensors(cursor, tensors)
    return Header(
        version=version,
        keys=keys,
        tensors=infos,
        data_offset=(cursor.offset + alignment - 1) // alignment * alignment,
        alignment=alignment,
    )


def _keys(cursor: "_Cursor", count: int) -> dict[str, Value]:
    keys: dict[str, Value] = {}
    for _ in range(count):
        name = cursor.text(NAME_BYTES, "key name")
        if name in keys:
            raise _invalid(f"key {name!r} appears twice")
        keys[name] = _value(cursor, cursor.u32(), name)
    return keys


def _value(cursor: "_Cursor", kind: int, name: str) -> Value:
    if kind in SCALARS:
        return cursor.scalar(SCALARS[kind])
    if kind == STRING:
        length = cursor.count(STRING_BYTES, f"bytes in {name!r}")
        if length <= (KEPT_TEMPLATE_BYTES if name == TEMPLATE else KEPT_STRING_BYTES):
            return cursor.take(length).decode(errors="replace")
        cursor.skip(length)
        return Skipped(length)
    if kind == ARRAY:
        return _array(cursor, name, depth=1)
    raise _invalid(f"key {name!r} has unknown type {kind}")


def _array(cursor: "_Cursor", name: str, depth: int) -> tuple[Scalar, ...] | Skipped:
    kind = cursor.u32()
    count = cursor.count(ARRAY_ITEMS, f"items in {name!r}")
    if kind in SCALARS:
        shape = SCALARS[kind]
        if count <= KEPT_ITEMS:
            return tuple(cursor.scalar(shape) for _ in range(count))
        cursor.skip(count * shape.size)
    elif kind == STRING:
        for _ in range(count):
            cursor.skip(cursor.count(STRING_BYTES, f"bytes in an item of {name!r}"))
    elif kind == ARRAY and depth < ARRAY_DEPTH:
        for _ in range(count):
            _array(cursor, name, depth + 1)
    else:
        raise _invalid(f"key {name!r} is an array of unknown type {kind} or too deep")
    return Skipped(count)


def _tensors(cursor: "_Cursor", count: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    for _ in range(count):
        name = cursor.text(KEPT_STRING_BYTES, "tensor name")
        if name in tensors:
            raise _invalid(f"tensor {name!r} appears twice")
        rank = cursor.u32()
        if not 1 <= rank <= DIMS:
            raise _invalid(f"tensor {name!r} has {rank} dimensions")
        dims = tuple(cursor.u64() for _ in range(rank))
        if not all(0 < dim <= DIM for dim in dims) or prod(dims) >= 2**63:
            raise _invalid(f"tensor {name!r} has shape {dims}")
        kind, offset = cursor.u32(), cursor.u64()
        size = tensor_bytes(kind, dims)
        if size is None and kind in GGML_TYPES:
            raise _invalid(
                f"tensor {name!r} has rows of {dims[0]}, no whole blocks of {GGML_TYPES[kind].name}"
            )
        tensors[name] = Tensor(name, dims, kind, offset, size)
    return tuple(tensors.values())


class _Cursor:
    """Read values from a stream through a small buffer, and count every byte."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._data = b""
        self._at = 0
        self.offset = 0

    def take(self, size: int) -> bytes:
        if len(self._data) - self._at < size:
            self._fill(size)
        start = self._at
        self._at += size
        self.offset += size
        if self.offset > HEADER_BYTES:
            raise _invalid(f"it is longer than {HEADER_BYTES} bytes")
        return self._data[start : self._at]

    def skip(self, size: int) -> None:
        while size > CHUNK_BYTES:
            self.take(CHUNK_BYTES)
            size -= CHUNK_BYTES
        self.take(size)

    def scalar(self, shape: struct.Struct) -> int | float | bool:
        value: int | float | bool = shape.unpack(self.take(shape.size))[0]
        return value

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def count(self, limit: int, what: str) -> int:
        count = self.u64()
        if count > limit:
            raise _invalid(f"{count} {what}, at most {limit} are read")
        return count

    def text(self, limit: int, what: str) -> str:
        try:
            return self.take(self.count(limit, f"bytes in a {what}")).decode()
        except UnicodeDecodeError as error:
            raise _invalid(f"a {what} is not UTF-8") from error

    def _fill(self, size: int) -> None:
        parts = [self._data[self._at :]]
        have = len(parts[0])
        while have < size:
            more = self._read(max(CHUNK_BYTES, size - have))
            if not more:
                raise TruncatedHeaderError(
                    f"cannot read GGUF header: it ends after {self.offset + have} bytes"
                )
            parts.append(more)
            have += len(more)
        self._data = b"".join(parts)
        self._at = 0


def _invalid(cause: str) -> FetchError:
    return FetchError(f"cannot read GGUF header: {cause}")


def read_first_keys(read: Read) -> Mapping[str, Value]:
    """Return the keys before the vocabulary. They say what a file is, and cost a few KiB.

    Raises:
        FetchError: the bytes are no GGUF header.
    """
    cursor = _Cursor(read)
    if cursor.take(4) != MAGIC or cursor.u32() not in VERSIONS:
        raise _invalid("it does not begin with GGUF, or has an unknown version")
    cursor.count(TENSORS, "tensors")
    keys: dict[str, Value] = {}
    for _ in range(cursor.count(KEYS, "keys")):
        name = cursor.text(NAME_BYTES, "key name")
        if name.startswith("tokenizer."):
            break
        keys[name] = _value(cursor, cursor.u32(), name)
    return keys
