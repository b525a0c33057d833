"""The file of API keys, as different people and editors write it."""

from pathlib import Path

import pytest

from qwenctl.errors import SettingsError
from qwenctl.settings.key_file import first_key, parse_keys, read_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("one\ntwo\n", ("one", "two")),
        ("one", ("one",)),
        ("# my laptop\nsecret\n", ("secret",)),
        ("  # my laptop\nsecret\n", ("secret",)),
        ("\t# my laptop\n\t secret \n", ("secret",)),
        ("# laptop\r\nsecret\r\n\r\nother\r\n", ("secret", "other")),
        ("\ufeffsecret\n", ("secret",)),
        ("\ufeff# laptop\r\nsecret\r\n", ("secret",)),
        ("key#with a mark\n", ("key#with a mark",)),
        ("", ()),
        ("\n \n# nothing\n", ()),
    ],
    ids=repr,
)
def test_each_line_that_is_no_comment_is_a_key(tmp_path: Path, text: str, keys: tuple[str, ...]) -> None:
    assert parse_keys(text) == keys
    file = tmp_path / "keys"
    file.write_bytes(text.encode())
    assert read_keys(file) == keys


def test_the_first_key_is_the_one_to_send(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("  # my laptop\nfirst\nsecond\n")
    assert first_key(file) == "first"


def test_a_file_without_a_key_or_without_text_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("# none yet\n")
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=f"cannot use API key file {empty}: it holds no key"):
        first_key(empty)
    with pytest.raises(SettingsError, match=f"cannot read API key file {binary}: "):
        first_key(binary)
    with pytest.raises(SettingsError, match="no such file"):
        first_key(tmp_path / "none")
