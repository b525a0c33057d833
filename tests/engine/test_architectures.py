"""Which architectures a llama-server knows is read from its library; without one, nobody knows."""

from pathlib import Path

import pytest

from qwenctl.engine.architectures import COMMON, knows


def installed(folder: Path, names: tuple[str, ...], library: str = "libllama.so") -> Path:
    """A server beside a library that holds these names."""
    server = folder / "bin/llama-server"
    server.parent.mkdir()
    server.write_bytes(b"#!")
    place = server.parent / library
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"\x7fELF" + b"\0".join(name.encode() for name in names) + b"\0")
    return server


@pytest.mark.parametrize(
    "library", ["libllama.so", "libllama.so.0.6", "libllama.dylib", "../lib/libllama.so"]
)
def test_a_name_in_the_library_is_known(tmp_path: Path, library: str) -> None:
    server = installed(tmp_path, (*COMMON, "qwen35"), library)
    assert knows(server, "qwen35") is True
    assert knows(server, "qwen99") is False
    link = tmp_path / "llama-server"
    link.symlink_to(server)
    assert knows(link, "qwen35") is True


def test_a_library_without_the_table_tells_nothing(tmp_path: Path) -> None:
    assert knows(installed(tmp_path, ("llama", "qwen35")), "qwen35") is None
    assert knows(tmp_path / "nowhere", "qwen35") is None


def test_an_empty_library_is_passed_over(tmp_path: Path) -> None:
    server = installed(tmp_path, ())
    (server.parent / "libllama.so").write_bytes(b"")
    assert knows(server, "llama") is None


def test_the_real_server_knows_what_is_common_and_not_what_is_made_up(server_binary: Path) -> None:
    assert all(knows(server_binary, name) for name in (*COMMON, "gpt-oss", "qwen35moe", "falcon-h1"))
    assert knows(server_binary, "zamba9") is False
