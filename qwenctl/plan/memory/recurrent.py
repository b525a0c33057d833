"""A layer that keeps a state instead of tokens: delta net, mamba, short convolution, RWKV. Pure: no I/O.

Source: llama.cpp b11434, src/llama-hparams.cpp (n_embd_r, n_embd_s) and src/llama-memory-recurrent.cpp:
32-bit floats, one row for each slot and for each draft, independent of the context.
"""

from qwenctl.model.architecture import Architecture
from qwenctl.model.layers import RECURRENT_BY_INTERVAL
from qwenctl.plan.memory.server_load import Load


def state_bytes(model: Architecture, sequences: int, draft_tokens: int = 0) -> int:
    """Return the size of one layer's state."""
    return 4 * (history_values(model) + state_values(model)) * sequences * (1 + draft_tokens)


def history_values(model: Architecture) -> int:
    """Return the values kept of the last tokens, for the convolution before the state."""
    if model.wkv_head_size:
        return model.token_shift_count * model.embedding_length
    if model.shortconv_l_cache:
        return model.embedding_length * (model.shortconv_l_cache - 1)
    if model.kda_head_dim:
        kernel = model.ssm_conv_kernel - 1 if model.ssm_conv_kernel else 3
        return 3 * kernel * model.head_count * model.kda_head_dim
    return max(0, model.ssm_conv_kernel - 1) * _channels(model)


def state_values(model: Architecture) -> int:
    """Return the values of the state itself."""
    if model.wkv_head_size:
        return model.embedding_length * model.wkv_head_size
    if model.kda_head_dim:
        return model.kda_head_dim**2 * model.head_count
    return model.ssm_state_size * model.ssm_inner_size


def peak_bytes(model: Architecture, load: Load) -> int:
    """Return the most that a layer's values take while a batch is computed."""
    channels, wide = _channels(model), 4 * model.embedding_length
    if model.name in RECURRENT_BY_INTERVAL:
        return 4 * load.batch * (2 * channels + wide) + 4 * state_values(model) * load.parallel
    if model.shortconv_l_cache or model.wkv_head_size:
        return 4 * load.batch * (4 * model.embedding_length + wide)
    made = model.ssm_inner_size + channels + model.ssm_time_step_rank
    values = made + 2 * channels + model.ssm_inner_size + wide
    return 4 * load.batch * values + state_bytes(model, load.parallel)


def _channels(model: Architecture) -> int:
    """Return the width of the convolution."""
    return model.ssm_inner_size + 2 * model.ssm_group_count * model.ssm_state_size
