"""The bundled engine: the llama.cpp of the ``xllamacpp`` wheel behind llama-server's own command line.

This module is a program of its own, ``qwenctl-llama-server``. It imports nothing of qwenctl, so that it
starts fast, and nothing but the wheel, so that nothing else shares the server's process.

The wheel has the server, but no program. Its extension exports llama.cpp's own argument parser, which fills
a C++ ``common_params``; the wheel's ``CommonParams`` object holds one, right behind the object's header. So
every flag, ``--help`` and ``--list-devices`` are llama.cpp's own. The other way was a table from our flags
to the wheel's attributes: it has no ``--help``, and refuses a person's ``extra_args``. This way rests on the
layout of one version of the wheel: no other version is accepted, and ``_at`` proves the place at each start.

Signals are llama-server's: while the model loads SIGTERM ends the process; then the first one lets it clean
up, and the second one ends it at once. The wheel's constructor holds Python's lock while it loads, so no code
of ours can answer a signal then: the main thread lets the system's own default in, and nothing else.
"""

import ctypes
import os
import signal
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, TextIO

PACKAGE, PINNED = "xllamacpp", "2026.10.11549"
"""The wheel, and the version whose layout is known. Its last number is llama.cpp's build."""
UNUSABLE = f"error: cannot use the {PACKAGE} package: {{}}; the bundled engine needs {PACKAGE} {PINNED}"
PARSE = "_Z19common_params_parseiPPcR13common_params13llama_examplePFviS0_E"
"""``bool common_params_parse(int, char **, common_params &, llama_example, void (*)(int, char **))``.

Source: common/arg.h of llama.cpp; the name is the Itanium C++ ABI's on Linux and on macOS.
"""
COMMON_INIT = "_Z11common_initv"
"""``void common_init()``: prepares the log. Source: common/common.h of llama.cpp."""
LLAMA_EXAMPLE_SERVER = 12
"""Which program the flags are for. Source: ``enum llama_example`` in common/common.h of llama.cpp."""
FIRST_FIELDS = ("n_predict", "n_ctx", "n_batch", "n_ubatch", "n_keep")
"""The first fields of ``common_params``, each an int32. Source: common/common.h of llama.cpp."""
DEFAULT_PORT = 8080
"""The wheel's own is 0. Source: ``common_params::port`` in common/common.h of llama.cpp."""
PR_SET_NAME = 15
"""Source: linux/prctl.h."""
END, WAKE = (signal.SIGTERM, signal.SIGINT), signal.SIGUSR1
SIGSET_BYTES = 128
"""Room for a ``sigset_t``. Source: glibc and musl 128 bytes, macOS 4."""


def main() -> NoReturn:
    """Run llama-server with the arguments of the command line, and exit as it does."""
    arguments, found = sys.argv[1:], _version()
    if found != PINNED:
        _end(1, UNUSABLE.format("it is not installed" if found is None else f"this is {found}"))
    if arguments == ["--version"]:  # the number that is compiled in is always 0
        _end(0, f"version: {PINNED.rpartition('.')[2]} ({PACKAGE} {PINNED})", sys.stdout)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {*END, WAKE})  # before any thread is started: they inherit it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_NAME, b"llama-server")  # what `ps`, `top` and the OOM killer call it
    try:
        from xllamacpp import xllamacpp as extension  # noqa: PLC0415  a broken wheel is said in words

        params = extension.CommonParams()
        params.port = DEFAULT_PORT
        place = _at(params)
        library = ctypes.CDLL(extension.__file__)
        library[COMMON_INIT]()
        parse = library[PARSE]
    except (ImportError, OSError, AttributeError, LookupError, ValueError) as error:
        _end(1, UNUSABLE.format(error))
    if not _parse(parse, place, arguments):
        _end(1)
    _serve(extension, params)
    sys.exit(0)


def _version() -> str | None:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None


def _at(params: Any) -> int:  # noqa: ANN401  a class of the wheel, which has no types
    """Return where the C++ structure lies in the object.

    Each of the first fields is set through the wheel's own attribute and must be found in its place.

    Raises:
        LookupError: it is somewhere else.
    """
    place = id(params) + object.__basicsize__
    for number, name in enumerate(FIRST_FIELDS):
        before, mark = getattr(params, name), 1_000_003 + number
        setattr(params, name, mark)
        seen = ctypes.c_int32.from_address(place + number * ctypes.sizeof(ctypes.c_int32)).value
        setattr(params, name, before)
        if seen != mark:
            raise LookupError(f"its CommonParams is laid out differently ({name} is not where it was)")
    return place


def _parse(parse: Any, place: int, arguments: list[str]) -> bool:  # noqa: ANN401  a C function
    parse.restype = ctypes.c_bool
    parse.argtypes = (
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    words = [b"llama-server", *map(os.fsencode, arguments)]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words)
    return bool(parse(len(words), argv, place, LLAMA_EXAMPLE_SERVER, None))


def _serve(extension: Any, params: Any) -> None:  # noqa: ANN401  the wheel has no types
    """Load the model, serve until the first signal, and clean up.

    Every thread blocks the signals. In the main thread ``sigsuspend`` lets them in until the model is loaded:
    SIGTERM ends a loading llama-server, too.
    """
    loaded: list[Any] = []
    signal.signal(WAKE, lambda *_: None)
    main_thread = threading.get_ident()

    def load() -> None:
        try:
            loaded.append(extension.Server(params))
        except (RuntimeError, ValueError) as error:
            loaded.append(error)
        finally:
            signal.pthread_kill(main_thread, WAKE)

    loader = threading.Thread(target=load)
    loader.start()
    ctypes.CDLL(None).sigsuspend(ctypes.create_string_buffer(SIGSET_BYTES))
    loader.join()
    if not loaded or isinstance(loaded[0], Exception):
        _end(1, f"error: {loaded[0]}" if loaded else "")
    signal.sigwait(END)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, END)  # a second one ends it at once
    loaded.clear()  # the destructor lets the server end, and waits for that


def _end(code: int, text: str = "", stream: TextIO | None = None) -> NoReturn:
    if text:
        print(text, file=stream or sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
