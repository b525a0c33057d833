"""Real listings of several publishers, as public sources name them. Sizes are rounded where the cards round.

Sources: the model cards of mradermacher/translategemma-12b-it-i1-GGUF and bartowski's gemma-4-E4B-it (sizes
in GB), a copy of the tree of unsloth/Qwen3.5-9B-GGUF (bytes), the names of unsloth/gemma-4-12b-it-GGUF and of
unsloth/Kimi-K2.7-Code-GGUF, the cards of Qwen/Qwen2.5-7B-Instruct-GGUF, ggml-org/gpt-oss-20b-GGUF and
lmstudio-community/Qwen3-4B-GGUF.
"""

from qwenctl.model.profile import File

GB = 10**9


def files(sizes: dict[str, int | float]) -> tuple[File, ...]:
    """Sizes below 1000 are gigabytes."""
    return tuple(
        File(name=name, bytes=int(size * GB) if size < 1000 else int(size)) for name, size in sizes.items()
    )


_I1 = "translategemma-12b-it.i1-"
MRADERMACHER = files(
    {"translategemma-12b-it.imatrix.gguf": 0.1}
    | {
        f"{_I1}{name}.gguf": size
        for name, size in {
            "IQ1_S": 3.0,
            "IQ1_M": 3.3,
            "IQ2_XXS": 3.6,
            "IQ2_XS": 3.9,
            "IQ2_S": 4.1,
            "IQ2_M": 4.4,
            "Q2_K_S": 4.5,
            "Q2_K": 4.9,
            "IQ3_XXS": 4.9,
            "IQ3_XS": 5.3,
            "IQ3_S": 5.6,
            "Q3_K_S": 5.6,
            "IQ3_M": 5.8,
            "Q3_K_M": 6.1,
            "Q3_K_L": 6.6,
            "IQ4_XS": 6.7,
            "IQ4_NL": 7.0,
            "Q4_0": 7.0,
            "Q4_K_S": 7.0,
            "Q4_K_M": 7.4,
            "Q4_1": 7.7,
            "Q5_K_S": 8.3,
            "Q5_K_M": 8.5,
            "Q6_K": 9.8,
        }.items()
    }
)
BARTOWSKI = files(
    {
        f"gemma-4-E4B-it-{name}.gguf": size
        for name, size in {
            "bf16": 15.05,
            "Q8_0": 8.03,
            "Q6_K_L": 7.18,
            "Q5_K_L": 6.67,
            "Q6_K": 6.33,
            "Q4_K_L": 6.25,
            "Q3_K_XL": 5.88,
            "Q5_K_M": 5.82,
            "Q5_K_S": 5.70,
            "Q4_1": 5.46,
            "Q4_K_M": 5.41,
            "Q2_K_L": 5.30,
            "Q4_K_S": 5.24,
            "IQ4_NL": 5.23,
            "Q4_0": 5.22,
            "IQ4_XS": 5.11,
            "Q3_K_L": 5.03,
            "Q3_K_M": 4.90,
        }.items()
    }
    | {"mmproj-google_gemma-4-E4B-it-bf16.gguf": 0.99, "google_gemma-4-E4B-it-imatrix.gguf": 0.01}
)
UNSLOTH = files(
    {
        "Qwen3.5-9B-Q4_K_M.gguf": 5680522464,
        "Qwen3.5-9B-Q5_K_M.gguf": 6577841376,
        "Qwen3.5-9B-Q8_0.gguf": 9527502048,
        "Qwen3.5-9B-IQ4_XS.gguf": 5168653536,
        "Qwen3.5-9B-UD-Q4_K_XL.gguf": 5966095584,
        "Qwen3.5-9B-UD-IQ2_XXS.gguf": 3190613216,
        "Qwen3.5-9B-BF16.gguf": 17920697312,
        "mmproj-F16.gguf": 918166080,
        "README.md": 1000,
        "imatrix_unsloth.gguf_file": 5_000_000,
    }
)
UNSLOTH_WITH_MTP = files(
    {
        "Model-Q4_K_M.gguf": 7.0,
        "Model-Q8_0.gguf": 12.0,
        "Model-UD-Q4_K_XL.gguf": 7.1,
        "mmproj-F32.gguf": 0.214,
        "mmproj-F16.gguf": 0.171,
        "mmproj-BF16.gguf": 0.171,
        "mtp-Model.gguf": 0.46,
        "MTP/mtp-Model-Q8_0.gguf": 0.46,
        "MTP/mtp-Model-F16.gguf": 0.86,
    }
)
QWEN = files(
    {
        "qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf": 3.99,
        "qwen2.5-7b-instruct-q4_k_m-00002-of-00002.gguf": 0.69,
        "qwen2.5-7b-instruct-q2_k.gguf": 3.02,
        "qwen2.5-7b-instruct-q3_k_m.gguf": 3.81,
        "qwen2.5-7b-instruct-q8_0-00001-of-00003.gguf": 3.98,
        "qwen2.5-7b-instruct-q8_0-00002-of-00003.gguf": 3.96,
        "qwen2.5-7b-instruct-q8_0-00003-of-00003.gguf": 0.16,
        "qwen2.5-7b-instruct-fp16-00001-of-00004.gguf": 3.96,
        "qwen2.5-7b-instruct-fp16-00002-of-00004.gguf": 3.87,
        "qwen2.5-7b-instruct-fp16-00003-of-00004.gguf": 3.86,
        "qwen2.5-7b-instruct-fp16-00004-of-00004.gguf": 3.54,
    }
)
GGML_ORG = files({"gpt-oss-20b-mxfp4.gguf": 12109566560})
LMSTUDIO = files(
    {
        "Qwen3-4B-Q3_K_L.gguf": 2.24,
        "Qwen3-4B-Q4_K_M.gguf": 2.50,
        "Qwen3-4B-Q6_K.gguf": 3.31,
        "Qwen3-4B-Q8_0.gguf": 4.28,
    }
)
FOLDERS = files(
    {
        "UD-IQ1_M/Kimi-K2.7-Code-UD-IQ1_M-00001-of-00003.gguf": 48.0,
        "UD-IQ1_M/Kimi-K2.7-Code-UD-IQ1_M-00002-of-00003.gguf": 48.0,
        "UD-IQ1_M/Kimi-K2.7-Code-UD-IQ1_M-00003-of-00003.gguf": 40.0,
        "UD-Q4_K_XL/Kimi-K2.7-Code-UD-Q4_K_XL-00001-of-00002.gguf": 49.0,
    }
)
SEVERAL_MODELS = files(
    {
        "Llama-3.2-1B-Instruct-Q4_K_M.gguf": 0.81,
        "Llama-3.2-1B-Instruct-Q8_0.gguf": 1.32,
        "Llama-3.2-3B-Instruct-Q4_K_M.gguf": 2.02,
        "ggml-vocab-llama-bpe.gguf": 0.008,
        "Llama-3.2-1B-Instruct-draft.gguf": 0.4,
        "my-style-lora-F16.gguf": 0.1,
        "Llama-3.2-3B-Instruct-IQ4_KS.gguf": 1.9,
        "Llama-3.2-3B-Instruct.Q8_0.gguf.part1of2": 1.9,
    }
)
