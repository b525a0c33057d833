"""Archives are unpacked whole or not at all, and never anywhere else."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from qwenctl.engine.builds import unpack as unpacking
from qwenctl.engine.builds.unpack import SMALL_BYTES, ArchiveError, find_program, unpack
from qwenctl.errors import FetchError
from tests.fakes.disk import small_disk
from tests.fakes.engine_archive import LINKS, add, engine_archive, link, noise, runtime_archive


def made(path: Path, fill: Callable[[tarfile.TarFile], object]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        fill(tar)
    return path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_the_one_top_folder_is_left_out_and_links_and_programs_stay_what_they_are(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(engine_archive("b11500"))
    folder = tmp_path / "engine"
    unpack(archive, folder)
    assert files(folder) == {"llama-server", "LICENSE", "help.txt", "libllama.so.0.9.1", *LINKS}
    assert {name: str((folder / name).readlink()) for name in LINKS} == LINKS
    assert (folder / "libllama.so").read_bytes() == b"a library"
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in ("llama-server", "LICENSE")}
    assert modes == {"llama-server": 0o755, "LICENSE": 0o644}
    assert find_program(folder) == folder / "llama-server"


def test_a_zip_of_2025_has_its_program_two_folders_down(tmp_path: Path) -> None:
    archive = tmp_path / "llama-b6558-bin-ubuntu-x64.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, mode in (("build/bin/llama-server", 0o755), ("build/bin/libggml.so", 0o644)):
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | mode) << 16
            zipped.writestr(info, name)
        info = zipfile.ZipInfo("build/bin/libllama.so")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(info, "libggml.so")
    folder = tmp_path / "engine"
    unpack(archive, folder)
    program = find_program(folder)
    assert program == folder / "bin/llama-server"
    assert os.access(program, os.X_OK)
    assert str((folder / "bin/libllama.so").readlink()) == "libggml.so"


def test_files_without_a_common_folder_stay_where_they_are(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "bin/llama-server", b"x")
        add(tar, "b", b"x")

    archive = made(tmp_path / "a.tar.gz", fill)
    unpack(archive, tmp_path / "engine")
    assert files(tmp_path / "engine") == {"bin", "bin/llama-server", "b"}


def test_a_setuid_bit_is_never_kept(tmp_path: Path) -> None:
    archive = made(tmp_path / "a.tar.gz", lambda tar: add(tar, "x/llama-server", b"x", 0o6777))
    unpack(archive, tmp_path / "engine")
    assert stat.S_IMODE((tmp_path / "engine/llama-server").stat().st_mode) == 0o755


def test_a_hard_link_is_a_copy_of_a_file_of_the_archive(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "x/llama-server", b"program", 0o755)
        link(tar, "x/llama-cli", "x/llama-server", tarfile.LNKTYPE)

    unpack(made(tmp_path / "a.tar.gz", fill), tmp_path / "engine")
    assert (tmp_path / "engine/llama-cli").read_bytes() == b"program"


def device(tar: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("x/null")
    info.type, info.devmajor, info.devminor = tarfile.CHRTYPE, 1, 3
    tar.addfile(info)


def twice(tar: tarfile.TarFile) -> None:
    add(tar, "x/llama-server", b"1")
    add(tar, "x/llama-server", b"2")


def through_a_link(tar: tarfile.TarFile) -> None:
    link(tar, "x/lib", "/tmp")
    add(tar, "x/lib/evil", b"x")


def out_by_two_links(tar: tarfile.TarFile) -> None:
    """``a`` is the folder itself, so that ``a/..`` is outside, although the text stays inside."""
    add(tar, "x/sub/file", b"x")
    link(tar, "x/sub/a", "..")
    link(tar, "x/out", "sub/a/../../secret")


@pytest.mark.parametrize(
    ("fill", "why"),
    [
        (lambda tar: add(tar, "/etc/cron.d/evil", b"x"), "would be written outside"),
        (lambda tar: add(tar, "x/../../evil", b"x"), "would be written outside"),
        (lambda tar: add(tar, "..", b"x"), "would be written outside"),
        (lambda tar: add(tar, "x/a\x07b", b"x"), "an entry called"),
        (lambda tar: add(tar, "x/a\\b", b"x"), "an entry called"),
        (lambda tar: add(tar, "x/" + "n" * 500, b"x"), "an entry called"),
        (lambda tar: link(tar, "x/lib", "/etc/passwd"), "is a link to"),
        (lambda tar: link(tar, "x/lib", "../../secret"), "is a link to"),
        (lambda tar: link(tar, "x/lib", "not-there"), "is a link to"),
        (lambda tar: link(tar, "x/lib", "lib"), "is a link to"),
        (lambda tar: link(tar, "x/lib", "../secret", tarfile.LNKTYPE), "is a link to"),
        (lambda tar: link(tar, "x/lib", "/etc/passwd", tarfile.LNKTYPE), "is a link to"),
        (out_by_two_links, "is a link to"),
        (through_a_link, "lies in x/lib, which is no folder"),
        (device, "neither a file nor a folder"),
        (lambda tar: link(tar, "x/pipe", "", tarfile.FIFOTYPE), "neither a file nor a folder"),
        (twice, "twice"),
    ],
)
def test_an_archive_that_reaches_out_is_refused(
    tmp_path: Path, fill: Callable[[tarfile.TarFile], object], why: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    before = files(tmp_path)
    archive = made(tmp_path / "a.tar.gz", fill)
    with pytest.raises(ArchiveError, match=r"cannot unpack a\.tar\.gz") as caught:
        unpack(archive, tmp_path / "engine")
    assert why in caught.value.message
    assert {name for name in files(tmp_path) if not name.startswith("engine")} == before | {"a.tar.gz"}
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    archive = made(tmp_path / "a.tar.gz", lambda tar: add(tar, "x/zeros", bytes(SMALL_BYTES + 1)))
    assert archive.stat().st_size < SMALL_BYTES / 500
    with pytest.raises(ArchiveError, match="would become more than"):
        unpack(archive, tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_a_zip_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("x/llama-server", bytes(10_000))
    content = archive.read_bytes().replace((10_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match="cannot unpack"):
        unpack(archive, tmp_path / "engine")


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    most = unpacking.MAX_ENTRIES

    def fill(tar: tarfile.TarFile) -> None:
        for number in range(most + 1):
            add(tar, f"x/{number}", b"")

    with pytest.raises(ArchiveError, match=f"or {most} files"):
        unpack(made(tmp_path / "a.tar.gz", fill), tmp_path / "engine")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        engine_archive("b1")[:200],
        gzip.compress(b"no tar"),
        engine_archive("b1", filler=50_000)[:-20_000],
        b"PK\x03\x04" + bytes(100),
    ],
    ids=["empty", "text", "cut in the head", "no tar", "cut in a file", "no zip"],
)
def test_a_damaged_archive_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"cannot unpack a\.tar\.gz"):
        unpack(archive, tmp_path / "engine")


def test_a_flipped_byte_is_found_by_the_archives_own_checksum(tmp_path: Path) -> None:
    content = bytearray(engine_archive("b1", filler=50_000))
    content[len(content) // 2] ^= 0x55
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(content)
    with pytest.raises(FetchError, match="cannot unpack"):
        unpack(archive, tmp_path / "engine")


def test_an_archive_without_a_server_says_what_it_has(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(runtime_archive("b1", "cuda-13.4"))
    unpack(archive, tmp_path / "engine")
    with pytest.raises(
        ArchiveError, match=r"cannot find llama-server .*: it has libcublas.so.13, libcudart.so.13"
    ):
        find_program(tmp_path / "engine")


def test_too_little_space_is_told_before_the_first_byte(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(engine_archive("b1", zeros=4 << 20))
    with small_disk(tmp_path / "disk", "1m") as disk:
        with pytest.raises(FetchError, match=r"4\d+ bytes are needed, 1048576 are free") as caught:
            unpack(archive, disk / "engine")
        assert list(disk.iterdir()) == []
    assert "XDG_DATA_HOME" in str(caught.value.hint)


def test_a_disk_that_fills_on_the_way_is_named_with_a_way_out(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(engine_archive("b1", files=600))
    with small_disk(tmp_path / "disk", "1m") as disk, pytest.raises(FetchError) as caught:
        unpack(archive, disk / "engine")
    assert "no space left" in caught.value.message
    assert "XDG_DATA_HOME" in str(caught.value.hint)


def test_noise_does_not_shrink() -> None:
    """The bound on the ratio is far from real archives: those shrink to a third at best."""
    assert len(gzip.compress(noise(10_000))) > 9_900
    assert io.BytesIO(noise(10)).read() == noise(10)
