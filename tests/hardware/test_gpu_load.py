"""Whether the GPUs of a process work: what drivers say, and what nobody can know."""

import asyncio
import threading
from pathlib import Path

import pytest

from qwenctl.hardware.facts import Accelerator, Backend
from qwenctl.hardware.gpu_load import GpuLoad, GpuWatch, drm_work, is_busy

AMDGPU = """pos:	0
flags:	02100002
drm-driver:	amdgpu
drm-pdev:	0000:03:00.0
drm-memory-vram:	1024 KiB
drm-engine-gfx:	56789 ns
drm-engine-compute:	1000 ns
"""
XE = "drm-driver:\txe\ndrm-cycles-ccs:\t28257900\ndrm-total-cycles-ccs:\t7655183225\n"
"""Both forms after the Linux kernel's drm-usage-stats.rst and xe's fdinfo."""


def device(backend: Backend, name: str) -> Accelerator:
    return Accelerator("X0", name, backend, "dedicated", None, None, None)


CUDA, ROCM = device("cuda", "NVIDIA RTX 4090"), device("rocm", "AMD Radeon RX 7900 XTX")
RADV = device("vulkan", "AMD Radeon 8060S (RADV STRIX_HALO)")


@pytest.mark.parametrize(
    ("used", "nvidia", "amd", "busy"),
    [
        ((CUDA,), (0, 97), None, True),
        ((CUDA,), (0, 4), None, False),
        ((CUDA,), None, (99,), None),
        ((ROCM,), None, (99,), True),
        ((RADV,), (0,), (0,), False),
        ((RADV,), (0,), None, None),
        ((device("vulkan", "NVIDIA GeForce RTX 3060"),), (30,), None, True),
        ((device("vulkan", "Intel(R) Arc(tm) A770"),), (0,), (0,), None),
        ((device("metal", "Apple M4 Max"),), None, None, None),
        ((CUDA, device("sycl", "Intel Arc")), (0,), None, None),
        ((CUDA, ROCM), (0,), (50,), True),
        ((), (99,), (99,), None),
    ],
)
def test_only_the_driver_of_a_device_knows(
    used: tuple[Accelerator, ...],
    nvidia: tuple[int, ...] | None,
    amd: tuple[int, ...] | None,
    busy: bool | None,  # noqa: FBT001 - a value of the table
) -> None:
    assert is_busy(used, {"nvidia": nvidia, "amd": amd}) is busy


def test_the_work_of_a_process_is_the_sum_over_its_files() -> None:
    assert drm_work([AMDGPU, "pos:\t0\n", AMDGPU]) == 2 * 57789
    assert drm_work([XE]) == 28257900
    assert drm_work(["pos:\t0\n", "drm-engine-render:\t0 ns\n"]) is None


def test_files_are_read_where_they_are_and_missed_where_they_are_not(tmp_path: Path) -> None:
    card, info = tmp_path / "card1/device", tmp_path / "7/fdinfo"
    card.mkdir(parents=True)
    info.mkdir(parents=True)
    (card / "gpu_busy_percent").write_text("63\n")
    (info / "5").write_text(AMDGPU)
    watch = GpuWatch(lambda: None, tmp_path, tmp_path)
    assert watch.measure((ROCM,), 7) == GpuLoad(busy=True, work=57789)
    assert watch.measure((ROCM,), 8) == GpuLoad(busy=True)
    (card / "gpu_busy_percent").write_text("unknown\n")
    assert watch.measure((ROCM,), 8) == GpuLoad(None)


def test_a_driver_that_hangs_is_asked_once_and_not_waited_for(tmp_path: Path) -> None:
    asked, answer = [], threading.Event()

    def nvidia() -> tuple[int, ...]:
        asked.append(1)
        answer.wait(20)
        return (50,)

    async def go() -> None:
        watch = GpuWatch(nvidia, tmp_path, tmp_path, answer_s=0.05)
        read = watch.reader((CUDA,))
        assert await read(7) == GpuLoad(None)
        assert await read(7) == GpuLoad(None)
        assert len(asked) == 1
        answer.set()
        assert watch.asking is not None
        watch.asking.join(20)
        assert await watch.reader((CUDA,))(7) == GpuLoad(busy=True)

    asyncio.run(go())
