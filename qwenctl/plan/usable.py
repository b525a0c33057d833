"""Join what the machine has with what the installed llama-server can use of it. Pure: no I/O."""

from dataclasses import replace

from qwenctl.hardware.facts import Accelerator, Backend, Device, Hardware, ServerFacts

BACKENDS: dict[str, Backend] = {
    "CUDA": "cuda",
    "ROCm": "rocm",
    "MTL": "metal",
    "Vulkan": "vulkan",
    "SYCL": "sycl",
    "RPC": "rpc",
}
"""Backends by the start of a device's name. Source: llama.cpp, ggml/src/ggml-*."""


def usable_by(server: ServerFacts | None, hardware: Hardware) -> tuple[Hardware, tuple[str, ...]]:
    """Leave out accelerators that this llama-server cannot use; say so. Unknown limits come from it too."""
    if server is None or not hardware.accelerators:
        return hardware, ()
    offered = {device.id: device for device in server.devices if device.total_bytes > 0}
    if not offered:
        names = ", ".join(accelerator.name for accelerator in hardware.accelerators)
        return replace(hardware, accelerators=()), (
            f"{server.path} can use no GPU: {names} stays idle and the model runs on the CPU",
        )
    kept = tuple(
        replace(one, usable_bytes=one.usable_bytes or offered[one.id].total_bytes)
        for one in hardware.accelerators
        if one.id in offered
    )
    return replace(hardware, accelerators=kept or _as_offered(hardware, tuple(offered.values()))), ()


def _as_offered(hardware: Hardware, devices: tuple[Device, ...]) -> tuple[Accelerator, ...]:
    """Return the server's own devices where it names none as the hardware does: Vulkan0 for CUDA0."""
    first = hardware.accelerators[0]
    return tuple(
        Accelerator(
            id=device.id,
            name=device.description,
            backend=next(
                (one for name, one in BACKENDS.items() if device.id.startswith(name)), first.backend
            ),
            memory=first.memory,
            memory_bytes=device.total_bytes,
            usable_bytes=device.total_bytes,
            driver=None,
        )
        for device in devices
    )
