"""Which answers say that the server cannot compute, and which are the request's own fault. By value."""

import json

import pytest

from qwenctl.gate.server_faults import (
    BROKEN,
    COMPUTING_PATHS,
    FAULTS_IN_A_ROW,
    GOOD,
    LOOK_AGAIN_S,
    OTHER,
    AnswerKind,
    FaultRow,
    Heard,
    computes,
    heard_events,
    heard_whole,
)

FAULTS = (
    "decode() failed: vk::Queue::submit: ErrorDeviceLost",  # ggml-org/llama.cpp 25664, b10005
    "Compute error.",  # ggml-org/llama.cpp 22214, 22673, 27309: Metal, after one failed command buffer
    "Compute error",
    "decode() failed: vk::Device::waitForFences: ErrorDeviceLost",
    "decode() failed: vk::Device::getFenceStatus: ErrorDeviceLost",
    "decode() failed: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
    "decode() failed: vk::Device::createDescriptorPool: ErrorOutOfHostMemory",
    "decode() failed: ggml_vulkan: waitForFences: ErrorUnknown",
    "decode() failed: failed to allocate compute pp buffers",
    "decode() failed: failed to process speculative batch",
    "decode() failed: std::bad_alloc",
    "decode() failed: level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
    "decode() failed: Native API failed. Native API returns: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)",
    "decode() failed: ggml-hex: failed to open session (see log for details)",
    "pre_decode() failed: vk::Queue::submit: ErrorDeviceLost",
    "post_decode() failed: vk::Queue::submit: ErrorDeviceLost",
    "post_decode() failed: std::bad_alloc",
    "got exception: vk::Queue::submit: ErrorDeviceLost",
    "got exception: failed to allocate compute pp buffers",
    "vk::Queue::submit: ErrorDeviceLost",
    "CUDA error: unspecified launch failure",
    "ROCm error: out of memory",
    "SYCL error: CHECK_TRY_ERROR(dpct::dev_mgr::instance())",
    "failed to process mtmd chunk",
)
OWN = (
    "Context size has been exceeded.",
    "decode() failed: Context size has been exceeded.",
    "Invalid input batch.",
    "context shift is disabled",
    "context shift cannot be used for shared prompt",
    "the current context does not support logits computation. skipping",
    "input (9000 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
    "Failed to load image or audio file",
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    "Failed to download image",
    "Invalid base64 value",
    "tools param requires --jinja flag",
    "Cannot use both json_schema and grammar",
    "'messages' is required",
    "Unable to save slot",
    "failed to get embeddings, the question and its options must fit in one batch",
    "got exception: Unexpected empty grammar stack after accepting piece: CUDA error: x",
    "post_decode() failed: The model produced output that does not match the expected peg-native format",
    "post_decode() failed: Failed to parse input at pos 3: vk::Queue::submit: ErrorDeviceLost",
    "std::bad_alloc",
    "failed to initialize samplers: Compute error.",
    "unknown error",
    "",
)
"""Errors of status 500 (some builds), all of them after b11434's tools/server and common."""
QUOTING = (
    "Failed to parse messages: {}; messages = []",
    "\n------------\nWhile executing CallExpression at line 1, column 5 in source:\nJinja Exception: {}",
    "Failed to parse tools: {}; tools = []",
    "Jinja Exception: {}",
    "Unexpected empty grammar stack after accepting piece: {}",
    "Invalid diff: '{}' not found at start of ''",
)
"""Errors whose text has words of the client in it. ``raise_exception`` of a template may quote a message."""


def of(message: object, code: int = 500) -> bytes:
    return json.dumps({"error": {"code": code, "message": message, "type": "server_error"}}).encode()


@pytest.mark.parametrize("text", FAULTS)
def test_an_error_of_the_device_or_of_a_computation_is_the_server_s(text: str) -> None:
    assert heard_whole(500, "application/json", of(text)) == Heard(AnswerKind.FAULT, text)
    assert heard_whole(500, "text/plain", text.encode()).kind is AnswerKind.FAULT
    for named in (b"", b"event: error\n"):
        assert heard_events(b'data: {"x":1}\n\n' + named + b"data: " + of(text) + b"\n\n").text == text
    flat = json.dumps({"code": 500, "message": text, "type": "server_error"}).encode()
    assert heard_events(b"event: error\ndata: " + flat + b"\n\n").text == text  # as Anthropic streams have it


@pytest.mark.parametrize("text", OWN)
def test_an_error_that_is_the_request_s_own_is_not(text: str) -> None:
    assert heard_whole(500, "application/json", of(text)) == OTHER
    assert heard_events(b"data: " + of(text) + b"\n\n") == OTHER


@pytest.mark.parametrize("form", QUOTING)
@pytest.mark.parametrize("text", FAULTS)
def test_words_of_a_client_never_make_an_error_the_server_s(form: str, text: str) -> None:
    quoted = form.format(text)
    assert heard_whole(500, "application/json", of(quoted)) == OTHER
    assert heard_whole(500, "text/plain", quoted.encode()) == OTHER
    assert heard_whole(500, "application/json", of("post_decode() failed: " + quoted)) == OTHER


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 501, 503])
@pytest.mark.parametrize("text", FAULTS)
def test_no_other_status_counts(status: int, text: str) -> None:
    assert heard_whole(status, "application/json", of(text, status)) == OTHER
    assert heard_events(b"data: " + of(text, status) + b"\n\n") == OTHER


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"3", b'"', b'{"error": null}', b'{"error": []}', b"\xff{"]
)
def test_errors_of_an_unknown_form_are_nothing(body: bytes) -> None:
    assert heard_whole(500, "application/json", body) == OTHER
    heard_events(b"event: error\ndata: " + body + b"\n\n")
    assert heard_whole(500, "application/json", of({"a": 1})) == OTHER


def test_an_answer_that_is_not_whole_is_no_good_one() -> None:
    assert heard_whole(200, "application/json", b'{"content": "x"}\n') == GOOD
    assert heard_whole(200, "application/json", b"[[0.1]]") == GOOD
    assert heard_whole(200, "text/plain", b"") == GOOD
    for body in (b"", b'{"content": "x', b"[[0.1"):
        assert heard_whole(200, "application/json", body) == BROKEN


def test_what_a_model_writes_is_no_error() -> None:
    said = json.dumps(
        {"choices": [{"delta": {"content": 'event: error\ndata: {"error": "Compute error."}'}}]}
    )
    assert heard_events(b"data: " + said.encode() + b"\n\n") == GOOD


def test_only_what_computes_is_judged() -> None:
    assert all(computes("POST", path) for path in COMPUTING_PATHS)
    for path in ("/v1/chat/completions", "/completion", "/v1/embeddings", "/v1/messages", "/v1/responses"):
        assert computes("POST", path)
    for path in ("/tokenize", "/slots/0", "/props", "/apply-template", "/lora-adapters"):
        assert not computes("POST", path)
    assert not computes("GET", "/v1/chat/completions")


FAULT = Heard(AnswerKind.FAULT, "Compute error.")


def row(*heard: Heard, child: int = 1) -> FaultRow:
    faults = FaultRow()
    for each in heard:
        faults = faults.after(child, each)
    return faults


def test_so_many_faults_in_a_row_are_suspicious() -> None:
    assert not row(*[FAULT] * (FAULTS_IN_A_ROW - 1)).suspicious(1, 0.0)
    assert row(*[FAULT] * FAULTS_IN_A_ROW).suspicious(1, 0.0)
    assert not row(FAULT, GOOD, FAULT).suspicious(1, 0.0)
    assert row(FAULT, *[OTHER] * 50, FAULT).suspicious(1, 0.0)
    assert not row(*[OTHER] * 50).suspicious(1, 0.0)


def test_faults_of_another_child_do_not_count() -> None:
    assert not row(FAULT).after(2, FAULT).suspicious(2, 0.0)
    late = row(FAULT, child=2).after(1, FAULT)
    assert late == row(FAULT, child=2)
    assert not row(FAULT, FAULT).suspicious(2, 0.0)


def test_a_child_that_was_asked_is_left_alone_for_a_while() -> None:
    faults = row(FAULT, FAULT).looked(100.0).after(1, FAULT).after(1, FAULT)
    assert not faults.suspicious(1, 100.0 + LOOK_AGAIN_S / 2)
    assert faults.suspicious(1, 100.0 + LOOK_AGAIN_S)
    assert faults.after(1, GOOD).after(1, FAULT).after(1, FAULT).looked_at == 100.0
    assert faults.after(2, FAULT).after(2, FAULT).suspicious(2, 100.0)
