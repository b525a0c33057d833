"""``qwenctl hardware``: show this machine's memory, CPU and GPUs."""

import click

from qwenctl.cli.arguments import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.deploy import pipeline
from qwenctl.hardware.facts import Accelerator, Hardware
from qwenctl.hardware.saved import to_json

GIB = 1024**3


@click.command("hardware", epilog="Example: qwenctl hardware --json > machine.json")
@common
@click.pass_obj
def command(session: Session) -> Result:
    """Show this machine's memory, CPU, and the GPUs that the server can use."""
    hardware = pipeline.survey(pipeline.resolve(request(session, {}))).hardware
    return Result(to_json(hardware), "\n".join(_lines(hardware)))


def _lines(hardware: Hardware) -> list[str]:
    cpu = hardware.cpu
    lines = [
        f"machine   {hardware.machine or 'unknown'} ({hardware.os}, {hardware.arch})",
        f"cpu       {cpu.model or 'unknown'}, {cpu.physical_cores} cores",
        f"ram       {hardware.ram_bytes / GIB:.1f} GiB",
    ]
    lines += [f"{accelerator.id:9} {_device(accelerator)}" for accelerator in hardware.accelerators]
    if not hardware.accelerators:
        lines.append("gpu       none that the server can use")
    return lines + [f"warning   {warning}" for warning in hardware.warnings]


def _device(accelerator: Accelerator) -> str:
    usable = accelerator.usable_bytes or accelerator.memory_bytes
    size = f"{usable / GIB:.1f} GiB {accelerator.memory}" if usable else f"{accelerator.memory}, size unknown"
    return f"{accelerator.name} ({accelerator.backend}), {size}"
