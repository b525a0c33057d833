"""Write a qwen35 GGUF with random weights: the architecture of the real model, 4 layers, 5.6 MB.

Its answers are noise; everything else a server does with it is real. Writes one file; same bytes each time.
"""

import secrets
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from qwenctl.engine.tiny_model import byte_tokens
from qwenctl.errors import LaunchError
from qwenctl.files import reason
from qwenctl.model.architecture import Architecture

if TYPE_CHECKING:
    from gguf import GGUFWriter

SEED = 35
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
CHAT_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n# Tools\\n\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\n\\nCall one with ' }}
{{- '<tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content and preserve_thinking %}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content or '' }}
{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}
{%- else %}{{- '<think>\\n' }}
{%- endif %}
{%- endif %}
"""
"""A short chat template with the features of the real model's: thinking and tools."""


def make_model(path: Path, model: Architecture) -> bool:
    """Write the model to ``path`` unless it is there. Return whether it was written.

    Raises:
        LaunchError: the gguf package is missing, or the file cannot be written.
    """
    if path.is_file():
        return False
    if find_spec("gguf") is None:
        raise LaunchError(
            f"cannot make the demo model {path}: the gguf package is not installed",
            hint="pip install 'qwenctl[demo]'",
        )
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # two threads may make it at once
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(part, model)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise LaunchError(f"cannot make the demo model {path}: {reason(error)}") from error
    return True


def _write(path: Path, model: Architecture) -> None:
    import gguf  # noqa: PLC0415 - an extra, and half a second to import
    import numpy  # noqa: ICN001, PLC0415 - likewise

    writer = gguf.GGUFWriter(path, model.name)
    _add_keys(writer, model)
    _add_tokens(writer)
    random = numpy.random.default_rng(SEED)
    for name, shape in _tensors(model):
        if name.endswith("norm.weight"):
            values = numpy.ones(shape, dtype=numpy.float32)
        elif name.endswith("ssm_a"):
            values = -numpy.ones(shape, dtype=numpy.float32)
        else:
            values = random.normal(0, 0.05, shape).astype(numpy.float32)
        half = len(shape) > 1 and "ssm_conv1d" not in name
        writer.add_tensor(name, values.astype(numpy.float16) if half else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_keys(writer: "GGUFWriter", model: Architecture) -> None:
    writer.add_name("qwenctl demo (random weights)")
    writer.add_block_count(model.block_count)
    writer.add_context_length(model.context_length)
    writer.add_embedding_length(model.embedding_length)
    writer.add_feed_forward_length(model.feed_forward_length)
    writer.add_head_count(model.head_count)
    writer.add_head_count_kv(model.head_count_kv)
    writer.add_key_length(model.key_length)
    writer.add_value_length(model.value_length)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e7)
    writer.add_rope_dimension_count(model.key_length // 4)
    writer.add_rope_dimension_sections([model.key_length // 16, model.key_length // 16, 0, 0])
    writer.add_ssm_conv_kernel(model.ssm_conv_kernel)
    writer.add_ssm_inner_size(model.ssm_inner_size)
    writer.add_ssm_state_size(model.ssm_state_size)
    writer.add_ssm_time_step_rank(model.ssm_time_step_rank)
    writer.add_ssm_group_count(model.ssm_group_count)
    writer.add_uint32(f"{model.name}.full_attention_interval", model.full_attention_interval)


def _add_tokens(writer: "GGUFWriter") -> None:
    tokens = [*byte_tokens(), *SPECIAL_TOKENS]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen35")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * len(SPECIAL_TOKENS))  # normal, control
    writer.add_token_merges([f"{tokens[0]} {tokens[1]}"])  # an empty list is refused
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(model: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield every tensor's name and shape (rows first). Source: llama.cpp, src/models/qwen35.cpp."""
    width, hidden = model.embedding_length, model.feed_forward_length
    keys, values = model.head_count_kv * model.key_length, model.head_count_kv * model.value_length
    state = model.ssm_group_count * model.ssm_state_size
    rank, inner = model.ssm_time_step_rank, model.ssm_inner_size
    yield "token_embd.weight", (model.vocab_size, width)
    for layer in range(model.block_count):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (width,)
        yield block + "post_attention_norm.weight", (width,)
        if (layer + 1) % model.full_attention_interval == 0:
            yield block + "attn_q.weight", (2 * model.head_count * model.key_length, width)  # query and gate
            yield block + "attn_k.weight", (keys, width)
            yield block + "attn_v.weight", (values, width)
            yield block + "attn_output.weight", (width, model.head_count * model.value_length)
            yield block + "attn_q_norm.weight", (model.key_length,)
            yield block + "attn_k_norm.weight", (model.key_length,)
        else:
            yield block + "attn_qkv.weight", (2 * state + inner, width)
            yield block + "attn_gate.weight", (inner, width)
            yield block + "ssm_conv1d.weight", (2 * state + inner, model.ssm_conv_kernel)
            yield block + "ssm_dt.bias", (rank,)
            yield block + "ssm_a", (rank,)
            yield block + "ssm_beta.weight", (rank, width)
            yield block + "ssm_alpha.weight", (rank, width)
            yield block + "ssm_norm.weight", (model.ssm_state_size,)
            yield block + "ssm_out.weight", (width, inner)
        yield block + "ffn_gate.weight", (hidden, width)
        yield block + "ffn_up.weight", (hidden, width)
        yield block + "ffn_down.weight", (width, hidden)
    yield "output_norm.weight", (width,)
    yield "output.weight", (model.vocab_size, width)
