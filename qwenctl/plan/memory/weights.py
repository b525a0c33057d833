"""Where the weights lie: layers over the devices, input on the host, output with the last. Pure: no I/O."""

from dataclasses import dataclass

from qwenctl.hardware.facts import Backend
from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import Layer, layers
from qwenctl.model.profile import Quant


@dataclass(frozen=True, slots=True)
class Share:
    """The layers that one device holds: from ``start`` to before ``stop``."""

    start: int
    stop: int

    def of(self, model: Architecture) -> tuple[Layer, ...]:
        """Return these layers of the model."""
        return layers(model)[self.start : self.stop]


def output_bytes(model: Architecture, quant: Quant) -> int:
    """Return the size of the output layer. If output and embedding share one tensor, it is copied."""
    if model.tied_embeddings or quant.output_bytes is None:
        return quant.token_embd_bytes
    return quant.output_bytes


def file_weights_bytes(model: Architecture, quant: Quant) -> int:
    """Return the weights of the file that are loaded: all but unused blocks."""
    return quant.bytes - model.header_bytes - _unused_bytes(model, quant)


def device_weights_bytes(model: Architecture, quant: Quant) -> int:
    """Return the weights of all devices together: all but the inputs, which stay on the host."""
    on_host = quant.other_input_bytes + (0 if model.tied_embeddings else quant.token_embd_bytes)
    return file_weights_bytes(model, quant) - on_host


def mapped_bytes(model: Architecture, quant: Quant, backends: tuple[Backend, ...]) -> int:
    """Return the inputs that a device holds, too, because it maps the file as one piece.

    Metal's buffer reaches from the first to the last tensor of the GPU, and the embedding lies between them
    in published files. Its pages are the host's. Source: llama.cpp b11434, src/llama-model.cpp,
    load_tensors; three Macs' logs (tests/plan/field).
    """
    if backends != ("metal",):
        return 0
    return quant.other_input_bytes + (0 if model.tied_embeddings else quant.token_embd_bytes)


def shares(model: Architecture, capacities: tuple[int, ...]) -> tuple[Share, ...]:
    """Return what each device gets when layers are split by capacity, in order, the output layer last.

    Source: llama.cpp, src/llama-model.cpp, load_tensors: layer i of n + 1 goes to the first device whose
    cumulative share of the memory exceeds i / (n + 1). Unused blocks count, too.
    """
    count, total = model.block_count + 1, sum(capacities)
    ends, reached = [], 0
    for capacity in capacities[:-1]:
        reached += capacity
        ends.append(min(count, -(-reached * count // total)))
    result, start = [], 0
    for end in (*ends, count):
        stop = min(end, model.block_count)
        result.append(Share(start, stop))
        start = stop
    return tuple(result)


def share_weights_bytes(model: Architecture, quant: Quant, share: Share, *, last: bool) -> int:
    """Return the weights of one device. The last one holds the output layer and what belongs to no layer."""
    head = output_bytes(model, quant) if last else 0
    blocks = device_weights_bytes(model, quant) - output_bytes(model, quant)
    if len(quant.layer_bytes) != model.block_count:
        loaded = [not layer.unused for layer in layers(model)]
        return blocks * sum(loaded[share.start : share.stop]) // sum(loaded) + head
    used = [0 if layer.unused else size for layer, size in zip(layers(model), quant.layer_bytes, strict=True)]
    rest = max(0, blocks - sum(used)) if last else 0
    return sum(used[share.start : share.stop]) + rest + head


def _unused_bytes(model: Architecture, quant: Quant) -> int:
    if len(quant.layer_bytes) != model.block_count:
        return quant.nextn_bytes
    return sum(size for layer, size in zip(layers(model), quant.layer_bytes, strict=True) if layer.unused)
