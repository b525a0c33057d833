"""The texts of a server that could not start: its flags, its address, its model, its limits. Pure: a table.

What a load complains of stays: the same file and the same build give the same error. So these are
permanent, but for memory, disks and limits, which may get better.
"""

import re

from qwenctl.supervise.crash_texts import (
    ABORT,
    ANY_BACKEND,
    DEVICE_HINT,
    EXIT,
    HOST_HINT,
    LOST_HINT,
    CrashText,
    starts,
)

NEWER = "install a newer llama.cpp: qwenctl engine update"
LOADING = r"error loading model: (?:[\w]+: )?"


def _load(cause: str, summary: str, hint: str, *texts: str, permanent: bool = True) -> CrashText:
    return CrashText(starts(*texts), cause, summary, permanent, hint, (EXIT, ABORT))


START_TEXTS = (
    _load(
        "bad_flag",
        "it does not know a flag",
        "look at [server] extra_args",
        r"error: (?:invalid argument|unknown argument|unknown option): (\S+)",
        r"error: unrecognized argument:? (\S+)",
    ),
    _load(
        "bad_flag",
        "this build has no such flag any more",
        "look at [server] extra_args",
        r"error while handling argument \"([^\"]+)\": (the argument has been removed.*)",
    ),
    _load(
        "bad_flag",
        "it does not accept a flag's value",
        "look at [server] extra_args",
        r"error while handling argument \"(?!--device\"|-dev\")([^\"]+)\"",
        r"error: (?:while handling argument|expected value for argument|invalid parameter for argument:?)"
        r" ?\"?([^\"\s]*)",
    ),
    _load(
        "bad_flag",
        "it does not accept an environment variable",
        "unset or mend it: where the service or the shell sets it",
        r"error while handling environment variable \"([^\"]+)\"",
    ),
    _load(
        "bad_flag",
        "it does not accept the chat template",
        "look at [server] extra_args: --chat-template, --chat-template-file",
        r"error: (the supplied chat template is not supported.*)",
    ),
    _load(
        "bad_flag",
        "it does not accept a flag for this model",
        "look at [server] extra_args",
        LOADING + r"(LLAMA_SPLIT_MODE_TENSOR not implemented.*|device \S+ does not support split buffers)",
    ),
    _load(
        "port_taken",
        "its address is taken or not allowed",
        "qwenctl up --port N uses another one",
        r"couldn't bind HTTP server socket, hostname: (.+)",
        r"couldn't bind to server socket: (.+)",
        r"couldn't start HTTP listener on (.+)",
        r"(?:bind|listen)\(?\)?: (Address already in use)",
        r"(?:docker: )?Error(?: response from daemon)?: "
        r".*((?:[Bb]ind|listen tcp)\b.*already (?:allocated|in use))",
        permanent=False,  # whoever holds it may leave
    ),
    _load(
        "limits",
        "a limit of the system or the container is reached",
        "raise it: TasksMax= of the unit, --pids-limit of the container, ulimit -u; ulimit -n for files",
        r"what\(\): +(Resource temporarily unavailable)",
        r"libc\+\+abi: terminating .*(thread constructor failed: .*)",
        r".*(pthread_create(?: failed)?(?:\(\))?: Resource temporarily unavailable|pthread_create failed.*)",
        r"(?:libgomp: )?(Thread creation failed.*)",
        r".*fork: (?:retry: )?(Resource temporarily unavailable)",
        r"OMP: (Error #34: .*|System error #11: .*)",
        r".*((?:failed to open|Failed to open|open failed).*Too many open files)",
        permanent=False,
    ),
    _load(
        "limits",
        "it may not write its cache",
        "give it a HOME or a LLAMA_CACHE that it may write: Environment= of the unit",
        r"what\(\): +(filesystem error: cannot create director.*)",
        permanent=False,
    ),
)
MODEL_TEXTS = (
    _load(
        "model_missing",
        "the model file may not be read",
        "let the user of the service read it: chmod or chown the file and its folders, or move it to a place "
        "that the service may read",
        r"failed to open GGUF file '([^']+)' \(Permission denied\)",
        r"(?:error loading model: )?(?:\w+: )?failed to open (\S+): Permission denied",
    ),
    _load(
        "disk",
        "the model file cannot be read from its disk",
        "see the system's log for errors of the disk or the network file system, and mount it again",
        r"failed to open GGUF file '[^']+' \(((?!No such file|Permission|(?:Is|Not) a directory)[A-Z].*)\)",
        permanent=False,
    ),
    _load(
        "model_missing",
        "the model file cannot be opened",
        "qwenctl fetch brings it; or set [model] path; a split model needs all of its parts",
        r"failed to open GGUF file '([^']+)'",
        LOADING + r"failed to open (\S+): No such file or directory",
        LOADING + r"failed to load GGUF split from (\S+)",
    ),
    _load(
        "model_corrupt",
        "it is no whole model",
        "leave the parts of a split model as they came, and name the first one; qwenctl fetch brings them",
        LOADING + r"((?:invalid|illegal) split (?:file|count).*)",
        LOADING + r"(missing key \S+ in GGUF split .*)",
    ),
    _load(
        "model_unknown",
        "this build does not know the model's architecture",
        NEWER,
        LOADING + r"un(?:known|supported) model architecture: '([^']+)'",
    ),
    _load(
        "model_unknown",
        "this build is too old for the model, or the model for the build",
        NEWER + "; or take another file of the model",
        r"(tensor '[^']*' has invalid ggml type \d+)",
        r"(tensor '[^']*' of type \d+ \([^)]*\) has \d+ elements per row, not a multiple of block size .*)",
        r"(key '[^']*' has invalid GGUF type \d+)",
        r"(this GGUF file is version \d+ but this software only supports up to version \d+)",
        r"(GGUFv1 is no longer supported)",
        LOADING + r"(missing tensor .*|tensor '[^']+' not found.*|tensor '[^']+' has wrong shape.*)",
        LOADING + r"((?:wrong number of|too many) tensors.*|missing tensor info mapping.*)",
        LOADING + r"(error loading model (?:vocabulary|hyperparameters|architecture).*)",
        LOADING + r"(unknown (?:pre-)?tokenizer.*|cannot find tokenizer .*)",
        LOADING + r"((?:array )?key not found in model: .*|key \S+ has wrong .*|wrong model arch.*)",
        LOADING + r"(\S+ (?:has wrong array element type|is not a .* array).*|invalid gguf type for .*)",
    ),
    _load(
        "model_unknown",
        "this build does not know the model's projector",
        NEWER + "; or take another mmproj file, or leave --mmproj out",
        r"failed to load model '.*': (?:\w+: )?(unknown (?:\w+ )?projector.*)",
    ),
    _load(
        "model_unknown",
        "this build cannot read the model's chat template",
        NEWER + "; or give another one in [server] extra_args: --chat-template-file FILE",
        r"(chat template parsing error: .*)",
        r"(failed to initialize chat template)",
        r"what\(\): +(Unable to generate parser for this template.*)",
    ),
    _load(
        "model_corrupt",
        "the model file is damaged or incomplete",
        "qwenctl fetch checks it and brings it again",
        r"invalid magic characters",
        r".*data is not within the file bounds",
        r"gguf_init_from_(?:file|reader)(?:_impl)?: failed to (?:read|load model)",
        r"failed to read (?:magic|header|key-value pairs|tensor info|tensor data)",
        LOADING + r"(corrupted model.*|tensor '[^']*' has invalid data|found tensors with invalid data)",
        LOADING + r"(invalid model: tensor '[^']*' is duplicated|unexpectedly reached end of file)",
    ),
    _load(
        "disk",
        "the model file cannot be read from its disk",
        "see the system's log for errors of the disk or the network file system; --load-mode mmap in "
        "[server] extra_args reads it without direct I/O",
        r"error loading model: ((?:read|seek|lseek|ftell) error: .*)",
        r"error loading model: (mmap failed: (?!Cannot allocate memory).*)",
        LOADING + r"(failed to open \S+: .*)",
        permanent=False,
    ),
    _load(
        "bad_plan",
        "the plan does not suit the device",
        "set [context] kv_type to f16, or use a device with flash attention",
        r"failed to initialize the context: (quantized V cache was requested.*)",
        r"(?:V|K) cache quantization requires (flash_attn|flash attention)",
        r"(quantized V cache (?:was requested|requires).*)",
        r"(Unsupported KV type combination for head_size \d+)",
    ),
)
_MEMORY = (
    r"failed to initialize the context: (failed to allocate .*)",
    r"(failed to allocate compute.*)",
    r"error loading model: (unable to allocate backend buffer|failed to allocate buffer)",
)
FULL_TEXTS = (
    CrashText(
        starts(*_MEMORY),
        "device_out_of_memory",
        "device memory ran out",
        permanent=False,
        hint=DEVICE_HINT,
        backends=(ANY_BACKEND,),
    ),
    CrashText(
        starts(*_MEMORY),
        "host_out_of_memory",
        "host memory ran out",
        permanent=False,
        hint=HOST_HINT,
    ),
)
"""A load that says only that memory ran out: on the device if there is one."""
_MMPROJ = "take the mmproj file that belongs to the model, or leave --mmproj out"
LAST_TEXTS = (
    CrashText(
        starts(r"error while handling argument \"(?:--device|-dev)\": (?:error: )?(invalid device.*)"),
        "gpu_lost",
        "a device of the plan is not there",
        permanent=False,  # qwenctl wrote that flag when the device was there
        hint=LOST_HINT,
        ends=(EXIT, ABORT),
    ),
    _load(
        "bad_flag",
        "it does not accept a flag's value",
        "look at [server] extra_args",
        r"error while handling argument \"([^\"]+)\"",
    ),
    _load(
        "load_failed",
        "the projector cannot be loaded",
        _MMPROJ,
        r"error: (mismatch between text model .*)",
        r"failed to load model '.*': (\S.*)",
    ),
    _load(
        "load_failed",
        "the projector cannot be loaded",
        _MMPROJ,
        r"failed to load multimodal model, '(.*)'",
    ),
    _load(
        "model_missing",
        "the model cannot be downloaded",
        "see whether its name is right and the network is there; qwenctl fetch brings the model beforehand",
        r"failed to download model:? ?(.*)",
        permanent=False,
    ),
    _load(
        "load_failed",
        "the model cannot be loaded",
        NEWER + "; or take another file of the model",
        r"error loading model: (?!\w+: failed to load model from)(.+)",
        r"failed to initialize the context: (.+)",
    ),
    _load(
        "load_failed",
        "the model cannot be loaded",
        NEWER + "; or take another file of the model",
        r"error loading model: (.+)",
    ),
)
"""What counts only where nothing above says more: a device that is away, and any other error of a load."""

LOAD_TEXTS = (*START_TEXTS, *MODEL_TEXTS)
QUOTES = (
    re.compile(r"(?:\S+:\d+: )?(GGML_ASSERT\(.*\) failed)"),
    re.compile(r"GGML_ASSERT: (\S+:\d+: .*)"),
    re.compile(r".*(Assertion [`'].*' failed)"),
    re.compile(r".*(Assertion failed: \(.*)"),
    re.compile(r"\S+:\d+: (?:libc\+\+ Hardening )?(assertion .+ failed.*)"),
    re.compile(r" *what\(\): +(.+)"),
    re.compile(r"(pure virtual method called)"),
    re.compile(r"((?:CUDA|ROCm|MUSA|HIP|SYCL|CANN|rocBLAS) error: .+)"),
    re.compile(r"\S+\.(?:cpp|cu|cuh|c|m|mm|h|hpp):\d+: (.+)"),
    re.compile(
        r"((?:double free|\w*(?:free|alloc|consolidate)\(\)|munmap_chunk|corrupted|\*\*\*|Fatal glibc).+)"
    ),
    re.compile(r"\S+\(\d+,0x\w+\) malloc: \*\*\* (error .+)"),
    re.compile(r"libc\+\+abi: terminating due to (.+)"),
    re.compile(r"terminate called after throwing an instance of '(.+)'"),
)
"""What an ending quotes where no cause is known: the assertion, the exception, the error."""
