"""The demo model: the same bytes each time, refused never, written whole or not at all."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import pytest

from qwenctl.demo.model import make_model
from qwenctl.errors import LaunchError
from qwenctl.model.toml import read_profile

PROFILE = read_profile(Path(__file__).parents[2] / "profiles/demo.toml")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_demo_model_is_the_same_each_time_and_has_the_size_of_its_profile(tmp_path: Path) -> None:
    one, two = tmp_path / "one.gguf", tmp_path / "two.gguf"
    assert make_model(one, PROFILE.architecture) is True
    assert make_model(two, PROFILE.architecture) is True
    assert digest(one) == digest(two)
    assert one.stat().st_size == PROFILE.quants[0].bytes
    assert make_model(one, PROFILE.architecture) is False


def test_the_demo_model_has_the_architecture_of_the_real_model(tmp_path: Path) -> None:
    make_model(tmp_path / "m.gguf", PROFILE.architecture)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    assert reader.fields["general.architecture"].contents() == "qwen35"
    assert reader.fields["qwen35.full_attention_interval"].contents() == 4
    assert "random weights" in reader.fields["general.name"].contents()


def test_threads_that_make_it_at_once_all_succeed(tmp_path: Path) -> None:
    path, together = tmp_path / "m.gguf", threading.Barrier(4)

    def make(_: int) -> bool:
        together.wait(timeout=20)
        return make_model(path, PROFILE.architecture)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(make, range(4)))
    assert any(made)
    assert path.stat().st_size == PROFILE.quants[0].bytes
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null/x"])
def test_a_folder_that_cannot_be_written_is_one_clear_line(folder: str) -> None:
    with pytest.raises(LaunchError, match="cannot make the demo model"):
        make_model(Path(folder) / "m.gguf", PROFILE.architecture)
