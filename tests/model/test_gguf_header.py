import contextlib
import io
import random
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import FetchError
from qwenctl.fetch.gguf_check import check_gguf
from qwenctl.model.ggml import GGML_TYPES, tensor_bytes
from qwenctl.model.gguf_header import Header, Skipped, TruncatedHeaderError, read_header
from qwenctl.model.gguf_name import shards
from tests.fakes.gguf_file import write_gguf


def header_of(data: bytes) -> Header:
    return read_header(io.BytesIO(data).read)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf").read_bytes()


def test_the_type_table_is_the_gguf_packages() -> None:
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: (kind.name, kind.block, kind.bytes) for number, kind in GGML_TYPES.items()} == theirs


def test_a_tensor_takes_whole_blocks() -> None:
    assert tensor_bytes(12, (5120, 248_320)) == 715_161_600  # token_embd of the 27B's Q4_K_M
    assert tensor_bytes(12, (100,)) is None
    assert tensor_bytes(99, (256,)) is None


def test_the_reader_agrees_with_the_gguf_package(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", tokens=500)
    ours = header_of(path.read_bytes())
    theirs = gguf.GGUFReader(path)
    assert ours.version == 3
    assert ours.architecture == "qwen35"
    assert ours.number("qwen35.block_count") == 4
    assert ours.keys["qwen35.rope.dimension_sections"] == (11, 11, 10, 0)
    assert ours.keys["tokenizer.ggml.tokens"] == Skipped(500)
    assert ours.text("tokenizer.chat_template") == "x" * 2000
    assert set(ours.keys) == {name for name in theirs.fields if not name.startswith("GGUF.")}
    assert [
        (tensor.name, tensor.dims, tensor.type, ours.data_offset + tensor.offset, tensor.bytes)
        for tensor in ours.tensors
    ] == [
        (tensor.name, tuple(tensor.shape.tolist()), tensor.tensor_type, tensor.data_offset, tensor.n_bytes)
        for tensor in theirs.tensors
    ]
    assert ours.file_bytes <= path.stat().st_size < ours.file_bytes + ours.alignment


def test_every_truncation_of_a_header_says_so(small: bytes) -> None:
    end = header_of(small).data_offset
    for length in (*range(0, end - 32, 7), end - 33):
        with pytest.raises(TruncatedHeaderError):
            header_of(small[:length])


@given(st.binary(max_size=300))
def test_garbage_is_a_fetch_error(data: bytes) -> None:
    for prefix in (b"", b"GGUF", b"GGUF\x03\0\0\0"):
        with contextlib.suppress(FetchError):
            header_of(prefix + data)


@given(st.integers(min_value=0), st.binary(min_size=1, max_size=8))
def test_a_header_with_wrong_bytes_in_it_is_read_or_refused(small: bytes, at: int, wrong: bytes) -> None:
    data = bytearray(small)
    at %= header_of(small).data_offset
    data[at : at + len(wrong)] = wrong
    with contextlib.suppress(FetchError):
        header_of(bytes(data))


@pytest.mark.parametrize("kind", [8, 9, 6, 4], ids=["strings", "arrays", "floats", "ints"])
def test_huge_counts_take_no_memory(kind: int) -> None:
    name = b"a"
    start = (
        b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + struct.pack("<Q", 1)
        + name
        + struct.pack("<IIQ", 9, kind, 100_000)
    )
    zeros = bytes(65_536)
    chunks = iter([start])

    def read(_size: int) -> bytes:
        return next(chunks, zeros)

    tracemalloc.start()
    try:
        read_header(read)
    except FetchError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2**20


def test_limits_name_what_is_too_many() -> None:
    with pytest.raises(FetchError, match="99999999 tensors, at most 65536"):
        header_of(b"GGUF" + struct.pack("<IQQ", 3, 99_999_999, 0))
    with pytest.raises(FetchError, match="big-endian"):
        header_of(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    with pytest.raises(FetchError, match="version 1"):
        header_of(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))


def test_a_short_file_is_refused_with_its_numbers(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    size = path.stat().st_size
    check_gguf(path, "qwen35")
    path.write_bytes(path.read_bytes()[: size - 1000])
    with pytest.raises(FetchError, match=rf"ends at byte \d+, the file at {size - 1000}"):
        check_gguf(path)


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="'qwen35', the profile's is 'llama'"):
        check_gguf(write_gguf(tmp_path / "model.gguf"), "llama")


def test_a_web_page_saved_as_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("<!doctype html>")
    with pytest.raises(FetchError, match="does not begin with GGUF"):
        check_gguf(path)
    with pytest.raises(FetchError, match="no such file"):
        check_gguf(tmp_path / "missing.gguf")


def test_the_parts_of_a_split_file_are_named_by_any_of_them() -> None:
    assert shards("m-00002-of-00003.gguf") == tuple(f"m-0000{no}-of-00003.gguf" for no in (1, 2, 3))
    assert shards("m-00004-of-00003.gguf") == ("m-00004-of-00003.gguf",)
    assert shards("m.gguf") == ("m.gguf",)


def test_a_split_file_is_checked_in_all_its_parts(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(
        tmp_path / "m.gguf",
        "qwen35",
        split_max_tensors=2,
        small_first_shard=False,
    )
    for layer in range(5):
        writer.add_tensor(
            f"blk.{layer}.x", np.full((64, 64), random.Random(layer).random(), dtype=np.float32)
        )
    writer.write_header_to_file(tmp_path / "m.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    first, second, _third = (tmp_path / name for name in shards("m-00001-of-00003.gguf"))
    check_gguf(first, "qwen35")
    with pytest.raises(FetchError, match="later part"):
        check_gguf(second)
    second.write_bytes(second.read_bytes()[:-400])
    with pytest.raises(FetchError, match="00002-of-00003"):
        check_gguf(first)
    second.unlink()
    with pytest.raises(FetchError, match="no such file"):
        check_gguf(first)
