"""nvml.py against a driver library built here: the real pynvml, a fake driver."""

import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from qwenctl.hardware.holders import Free, Holder
from qwenctl.hardware.nvidia import MigInstance, NvidiaGpu, Nvml

GIB = 1 << 30
SOURCE = Path(__file__).parent / "fake_nvml.c"
COMPILER = shutil.which("cc")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    path = tmp_path_factory.mktemp("driver") / "libnvidia-ml.so.1"
    command = [COMPILER, "-shared", "-fPIC", "-w", f"-Wl,-soname,{path.name}", "-o", str(path), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return path


def ask(code: str, mode: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FAKE_NVML": mode, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def nvml(library: Path, mode: str) -> Nvml:
    code = (
        "from pydantic import TypeAdapter; from qwenctl.hardware.nvidia import Nvml; "
        "from qwenctl.hardware.nvml import read_nvml; "
        "print(TypeAdapter(Nvml).dump_json(read_nvml('/nowhere')).decode())"
    )
    return TypeAdapter(Nvml).validate_json(ask(code, mode, LD_LIBRARY_PATH=str(library.parent)))


def test_every_gpu_is_read(library: Path) -> None:
    assert nvml(library, "ok") == Nvml(
        driver="580.95",
        gpus=(
            NvidiaGpu("GPU-0", "NVIDIA H200", 141 * GIB, capability="9.0"),
            NvidiaGpu("GPU-1", "NVIDIA H200", 141 * GIB, capability="9.0"),
        ),
        cuda="13.0",
    )


def test_a_gpu_without_memory_of_its_own_is_unified(library: Path) -> None:
    assert nvml(library, "unsupported").gpus == (
        NvidiaGpu("GPU-0", "NVIDIA GB10", None, unified=True, capability="12.1"),
    )


def test_a_driver_of_another_version_is_an_error_with_a_hint(library: Path) -> None:
    found = nvml(library, "mismatch")
    assert found.gpus == ()
    (error,) = found.errors
    assert error.startswith("cannot read NVIDIA GPUs: ")
    assert "mismatch" in error
    assert error.endswith("; reboot, or install matching versions")


def test_a_driver_that_is_not_loaded_is_no_error(library: Path) -> None:
    found = nvml(library, "unloaded")
    assert (found.gpus, found.errors) == ((), ())
    assert found.absent is not None


def test_a_lost_gpu_does_not_hide_the_others(library: Path) -> None:
    found = nvml(library, "lost")
    assert [(gpu.uuid, gpu.capability, found.cuda) for gpu in found.gpus] == [("GPU-0", None, None)]
    (error,) = found.errors
    assert error.startswith("cannot read NVIDIA GPU 1: ")


def test_the_slices_of_a_gpu_in_mig_mode_are_read(library: Path) -> None:
    (gpu,) = nvml(library, "mig").gpus
    assert gpu.mig == (MigInstance("MIG-1", "NVIDIA H200 MIG 1g.18gb", 16 * GIB),)


def test_the_library_of_wsl_is_found_outside_the_search_path(library: Path) -> None:
    if find_library("nvidia-ml"):
        pytest.skip("a machine without NVML: a real one is on the search path here, and comes first")
    code = f"from qwenctl.hardware.nvml import read_nvml; print(len(read_nvml({str(library)!r}).gpus))"
    assert ask(code, "ok", LD_LIBRARY_PATH="").strip() == "2"


def test_a_machine_without_a_driver_says_so_and_raises_nothing() -> None:
    code = (
        "from qwenctl.hardware.nvml import read_nvml, read_usage; print(read_nvml('/nowhere'), read_usage())"
    )
    if (out := ask(code, "ok")).startswith("Nvml(driver=None"):
        assert "absent='" in out
        assert out.strip().endswith("()")


def test_free_memory_and_holders_are_named(library: Path) -> None:
    code = (
        "from qwenctl.hardware.holders import *; "
        "print([free_bytes()[1:], [h for h in holders(1) if h.place != RAM]])"
    )
    out = ask(code, "ok", LD_LIBRARY_PATH=str(library.parent))
    free, held = eval(out, {"Free": Free, "Holder": Holder})  # noqa: S307  # our own output
    assert free == (Free("GPU 0 (NVIDIA H200)", 139 * GIB), Free("GPU 1 (NVIDIA H200)", 139 * GIB))
    assert [(h.pid, h.bytes) for h in held] == [(1, GIB), (4194304, None)]
    assert held[1].name == "?"
