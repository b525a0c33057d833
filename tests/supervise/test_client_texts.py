"""No text that a client can send changes what is decided about an ending."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwenctl.supervise.evidence import ExitContext
from qwenctl.supervise.exits import Ending, classify
from qwenctl.supervise.log_lines import LogWatch, opens_echo, parse_line
from qwenctl.supervise.logfile import Tail

HERE = Path(__file__).parent
STARTED = """0.00.004.231 I srv    load_model: loading model 'm.gguf'
0.00.413.778 I srv  llama_server: listening on http://127.0.0.1:18115
0.00.413.887 I srv  update_slots: all slots are idle
"""
OLD_STARTED = "main: server is listening on http://127.0.0.1:8080 - starting the main loop\n"
LOADING = "0.00.004.231 I srv    load_model: loading model 'm.gguf'\n"
IDLE = "0.09.642.912 I srv  update_slots: all slots are idle\n"
Form = Callable[[str], str]


def error(text: str) -> str:
    return json.dumps(
        {"error": {"code": 400, "message": text, "type": "invalid_request_error"}}, ensure_ascii=False
    )


RAW: dict[str, Form] = {
    "a body that cannot be read": lambda text: f"W srv    operator(): got exception: {error(text)}",
    "an old build's error": lambda text: (
        f"srv    operator(): got exception: {json.dumps({'code': 400, 'message': text})}"
    ),
    "a grammar": lambda text: (
        f"parse: error parsing grammar: expecting name at {text}\n\n{text}\n"
        "0.02.633.626 E failed to parse grammar\n0.02.640.802 E srv    send_error: task id = 0, error: "
        "Failed to initialize samplers: failed to parse grammar"
    ),
    "a grammar of tools": lambda text: (
        f"E common_sampler_init: error initializing grammar sampler for grammar:\n{text}\n\n"
        f"Generation prompt:\n'{text}'"
    ),
    "a schema": lambda text: (
        f"WARNING: JSON schema conversion was incomplete: pattern {text} is not supported (not anchored)"
    ),
    "a sampler": lambda text: (
        f"W common_sampler_types_from_names: unable to match sampler by name '{text.lower()}'"
    ),
    "a content part": lambda text: f"W Ignoring content part type: {text}",
    "a system prompt": lambda text: f"E anthropic string not as expected: {text}",
    "an answer": lambda text: f"W common_chat_peg_parse: unparsed peg-native output: {text}",
    "a tool call": lambda text: f"E Tool call mismatch: prev='{text}' new='{text}'",
    "an exception": lambda text: f"E slot    iterate: id  0 | task 3 | got exception: {text}",
    "an error": lambda text: f"E srv    send_error: task id = 3, error: got exception: {text}",
    "a stream": lambda text: (
        f"W srv  stream_stop_: stop on unknown stream session, conv_id={text} matched nothing, 0 live: []"
    ),
    "a completion": lambda text: (
        f"W srv  process_sing: control stop on unknown completion id={text}, no live slot"
    ),
    "an image": lambda text: f"I srv  handle_media: downloading image from '{text}'",
    "a body": lambda text: f"D srv  log_server_r: request:  {text}",
    "a body, in brackets": lambda text: f"VERB [      log_server_request] request:  {text}",
    "a body's answer": lambda text: f"srv  log_server_r: response: {text}",
    "a chat": lambda text: f"Parsing chat message: {text}",
    "a template": lambda text: f"E common_chat_apply_template: failed to apply template: {text}",
}
"""A client's text in the log of b11434 and of older builds, up to where the server's words start again."""
ENDED: dict[str, Form] = {
    "a tool type": lambda text: f"W srv  server_chat_: unsupported Responses tool type '{text}' skipped",
    "a path": lambda text: f"srv  log_server_r: request: POST /{text} 127.0.0.1 404",
}
"""These are frequent and mostly harmless, so they do not end the trust in the log.

A client can imitate their ends. Then it can silence the true cause, as any client can with a broken grammar.
It cannot put another cause in its place.
"""
CARRIED: dict[str, Form] = {
    "": lambda log: log,
    "docker": lambda log: re.sub("(?m)^", "server  | ", log),
    "journald": lambda log: re.sub("(?m)^", "Nov 26 08:00:01 box llama-server[812]: ", log),
    "journald, iso": lambda log: re.sub("(?m)^", "2026-11-26T08:00:01+0100 box llama-server[812]: ", log),
    "jan": lambda log: re.sub("(?m)^", "[llamacpp-router stderr] [52717] ", log),
    "pm2": lambda log: re.sub("(?m)^", "0|llama    | ", log),
    "a router": lambda log: re.sub("(?m)^", "[53211] ", log),
}
BLOCKS = {
    "": "",
    "idle": IDLE,
    "assertion": IDLE + "/b/src/llama-kv-cache.cpp:403: GGML_ASSERT(hparams.n_pos_per_embd() == 1) failed\n",
    "memory": IDLE + "CUDA error: out of memory\n  current device: 0, in function alloc at /b/x.cu:466\n"
    "/b/ggml/src/ggml-cuda/ggml-cuda.cu:109: CUDA error\n",
    "memory at once": "0.09.197.339 E CUDA error: out of memory\n/b/ggml-cuda.cu:109: CUDA error\n",
    "load": "0.00.091.760 E llama_model_load: error loading model: missing tensor 'x'\n"
    "0.00.091.762 E srv  llama_server: exiting due to model loading error\n",
    "lost": "terminate called after throwing an instance of 'vk::DeviceLostError'\n"
    "  what():  vk::Queue::submit: ErrorDeviceLost\n",
}
"""What the server itself prints after the client's text, before it ends."""
CODES = (*range(-31, 0), 0, 1, 2, 3, 126, 127, 132, 134, 135, 137, 139, 143)
PLATFORMS = ("linux", "darwin")


def lines_of(folder: str) -> list[str]:
    texts = [
        file.read_text(encoding="utf-8").split("\n")[2:] for file in sorted((HERE / folder).glob("*.txt"))
    ]
    return sorted({line for text in texts for line in text if line.strip() and not line.startswith("# ")})


SIGNS = [*lines_of("samples"), *lines_of("crash")]
ECHOES = [form("x").split("\n")[0] for form in (*RAW.values(), *ENDED.values())]
LOOK_ALIKES = [
    "\n0.1.2.3 E srv  x: CUDA error: out of memory",
    "\n9.59.999.999 E CUDA error: out of memory\n/b/ggml-cuda.cu:109: CUDA error",
    "' skipped\n",
    " 127.0.0.1 200\n",
    "\n0.99.001.000 I srv  llama_server: listening on http://x",
    "\n" * 120,
    "x" * 5000,
    "\r\n",
    "\x1b[31m",
    '"}}\n',
]
PIECES = st.one_of(
    st.sampled_from(SIGNS),
    st.sampled_from([f"\n{sign}\n" for sign in SIGNS]),
    st.sampled_from([f"\n0.09.100.000 E {sign}\n" for sign in SIGNS]),
    st.sampled_from(LOOK_ALIKES),
    st.sampled_from([f"\n{echo}\n" for echo in ECHOES]),
    st.text(max_size=20),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=6).map("".join)


def decided(log: str, code: int, platform: str, step: int = 1 << 16) -> tuple[str, bool, str | None]:
    """Return what is decided of a server that printed this."""
    data, tail, watch = log.encode("utf-8", "replace"), Tail(), LogWatch()
    for start in range(0, len(data), step):
        tail.feed(data[start : start + step])
        watch.feed(data[start : start + step])
    context = ExitContext(watch.serving, watch.echoed, watch.known, None, platform)
    return decision(classify(code, tail.lines(), context=context))


def decision(ending: Ending) -> tuple[str, bool, str | None]:
    return ending.cause, ending.permanent, ending.hint


def printed(form: Form, text: str, block: str, started: str = STARTED) -> str:
    line = form(text)
    prefix = "0.24.451.148 " if re.match(r"[IWED] ", line) else ""
    return f"{started}{prefix}{line}\n{block}"


HOSTILE = "\nCUDA error: out of memory\n/b/ggml-cuda.cu:109: CUDA error"


@settings(max_examples=1000, deadline=None)
@given(
    text=TEXTS,
    name=st.sampled_from(sorted(RAW)),
    carried=st.sampled_from(sorted(CARRIED)),
    block=st.sampled_from(sorted(BLOCKS)),
    code=st.sampled_from(CODES),
    platform=st.sampled_from(PLATFORMS),
    started=st.sampled_from([STARTED, OLD_STARTED, LOADING]),
)
@example(HOSTILE, "a grammar", "", "", -11, "linux", STARTED)
@example(HOSTILE, "a grammar", "", "", -6, "linux", STARTED)
@example(HOSTILE, "a body that cannot be read", "", "", -6, "linux", STARTED)
@example(HOSTILE + "\n" * 200 + HOSTILE, "a schema", "", "", -6, "linux", STARTED)
@example("\n" * 120, "a body", "", "", 0, "linux", LOADING)
@example("\n" * 120 + HOSTILE + "\nparse: error parsing grammar: x\n", "a body", "", "", -6, "linux", LOADING)
def test_a_text_of_a_client_decides_nothing(
    text: str, name: str, carried: str, block: str, code: int, platform: str, started: str
) -> None:
    form, carry = RAW[name], CARRIED[carried]
    hostile = decided(carry(printed(form, text, BLOCKS[block], started)), code, platform, 7)
    assert hostile == decided(carry(printed(form, "harmless", BLOCKS[block], started)), code, platform)


@settings(max_examples=500, deadline=None)
@given(
    text=TEXTS,
    name=st.sampled_from(sorted(ENDED)),
    block=st.sampled_from(sorted(BLOCKS)),
    code=st.sampled_from(CODES),
    platform=st.sampled_from(PLATFORMS),
)
@example("x" + HOSTILE + "\n" + "y" * 9000, "a tool type", "", -6, "linux")
@example("x' skipped" + HOSTILE + "\n" + "y" * 9000, "a tool type", "", -6, "linux")
@example("x 127.0.0.1 200" + HOSTILE + "\nterminate called after 'x", "a path", "", -6, "linux")
def test_a_text_of_a_client_never_puts_a_cause_in_place_of_the_true_one(
    text: str, name: str, block: str, code: int, platform: str
) -> None:
    form = ENDED[name]
    hostile = decided(printed(form, text, BLOCKS[block]), code, platform)
    true = decided(printed(form, "harmless", BLOCKS[block]), code, platform)
    alone = decided(printed(form, "harmless", IDLE), code, platform)
    assert hostile in (true, alone)
    if not BLOCKS[block]:
        assert hostile == true


@settings(max_examples=500, deadline=None)
@given(
    text=TEXTS,
    kind=st.sampled_from(
        [
            "  what():  Unexpected empty grammar stack after accepting piece: ",
            "  what():  [json.exception.parse_error.101] parse error at line 1, column 2: last read: '",
            "libc++abi: terminating due to uncaught exception of type std::runtime_error: Invalid diff: '",
        ]
    ),
    carried=st.sampled_from(sorted(CARRIED)),
    started=st.sampled_from([STARTED, OLD_STARTED]),
)
@example("ErrorDeviceLost" + HOSTILE, "  what():  Unexpected empty grammar stack: ", "", STARTED)
@example("(UR_RESULT_ERROR_DEVICE_LOST)", "  what():  Unexpected empty grammar stack: ", "", STARTED)
@example("x\n  what():  vk::Queue::submit: ErrorDeviceLost", "  what():  Invalid diff: ", "", STARTED)
def test_an_exception_that_quotes_a_client_is_only_a_crash(
    text: str, kind: str, carried: str, started: str
) -> None:
    log = f"{started}terminate called after throwing an instance of 'std::runtime_error'\n{kind}{text}\n"
    assert decided(CARRIED[carried](log), -6, "linux", 7) == decided(started, -6, "linux")


@pytest.mark.parametrize("name", sorted(RAW))
def test_the_line_that_prints_a_text_back_is_known(name: str) -> None:
    first = RAW[name]("x" + HOSTILE).split("\n")[0]
    single = "got exception: {" in first
    assert opens_echo(parse_line(first)) != single
    assert not re.match(r"[IWED] ", first) or opens_echo(parse_line("0.24.451.148 " + first)) != single


@pytest.mark.parametrize(
    ("block", "code", "cause"),
    [("memory", -6, "device_out_of_memory"), ("lost", -6, "gpu_lost"), ("assertion", -6, "crashed")],
)
def test_what_the_server_says_itself_still_counts_after_a_client_s_error(
    block: str, code: int, cause: str
) -> None:
    form = RAW["a body that cannot be read"]
    assert decided(printed(form, "x", BLOCKS[block]), code, "linux")[0] == cause
    assert decided(printed(ENDED["a tool type"], "web_search", BLOCKS[block]), code, "linux")[0] == cause
    assert decided(OLD_STARTED + ENDED["a path"]("v1/x") + "\n" + BLOCKS[block], code, "linux")[0] == cause


def test_a_request_while_the_model_loads_hides_no_error_of_the_load() -> None:
    load = "0.00.091.760 E llama_model_load: error loading model: missing tensor 'x'\n"
    echo = f"0.00.100.000 W srv    operator(): got exception: {error('CUDA error: out of memory')}\n"
    assert decided(echo + load + "0.00.2 E srv  x: exiting\n", 1, "linux")[0] == "model_unknown"
    path = ENDED["a path"]("x\n0.00.001.000 E llama_model_load: error loading model: missing tensor 'x'\n")
    assert decided(path + "\n", 1, "linux")[0] == "unknown"
