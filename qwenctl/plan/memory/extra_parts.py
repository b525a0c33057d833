"""Optional parts that the server holds, too: drafts of multi-token prediction, vision. Pure: no I/O."""

from typing import Literal

from qwenctl.hardware.facts import Backend
from qwenctl.model.profile import Profile, Quant
from qwenctl.plan.memory.kv_caches import draft_kv_bytes
from qwenctl.plan.memory.server_load import Load


def draft_bytes(profile: Profile, quant: Quant, load: Load, backend: Backend | Literal["cpu"]) -> int:
    """Return what the multi-token-prediction block takes beside the states: weights, its KV, its compute.

    Source: facts on ggml-org/llama.cpp#22673; 27B is within 2 % of the measured dry run; the
    other sizes are scaled from it. The drafts' keys and values are f16, so only Metal needs scratch.
    """
    if load.draft_tokens == 0 or profile.mtp is None:
        return 0
    model, tokens = profile.architecture, load.batch
    weights = int(quant.bytes * profile.mtp.block_share)
    kv = draft_kv_bytes(model, load)
    mask = 2 * load.stream_tokens * tokens
    narrow = 4 * tokens * 2 * model.feed_forward_length + mask + (kv if backend == "metal" else 0)
    return weights + kv + max(4 * tokens * 3 * (model.feed_forward_length + model.embedding_length), narrow)


def vision_bytes(profile: Profile, load: Load) -> int:
    """Return what the vision encoder takes on the first device."""
    return profile.vision.runtime_bytes if load.vision and profile.vision is not None else 0
