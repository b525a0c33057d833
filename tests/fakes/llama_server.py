#!/usr/bin/env python3
"""A stand-in for llama-server, for faults that the real one cannot be made to show. A real process.

What it does is a JSON object: in the file named like this script with ``.json`` added, read again for every
request, and in the argument after ``--behave``. Keys (all optional):

    exit        {"code": 1, "say": "text"}     print and end at once
    oom_above   tokens                         end as if memory ran out where -c is larger
    ready_after_s                              everything answers 503 until then
    slow_model  text                           everything answers 503 for ever where the model's path has it
    holds       path                           no answer to --help and --list-devices while this file exists;
                                               one beside it, .asked, says that somebody waits
    ignore_term                                SIGTERM is not heard
    hang        "all" | "but_health"           requests are never answered
    spin        seconds                        a completion burns CPU for so long; nothing else is answered
    answer_s    seconds                        a chat completion takes so long
    one_slot                                   one at a time; nothing else is answered meanwhile
    save_s, restore_s                          saving or restoring a slot takes so many seconds
    term_s      seconds                        SIGTERM ends it so much later
    say_bytes   how much to print at the start
    grandchild                                 start a process of the same group that outlives this one
    busy        [slot, ...]                    what /slots shows
    sick        text                           what computes is answered with this error, /health with 200
    sick_above  tokens                         the process is well where -c is not larger
    sick_says   text                           it prints this with each such answer
    sick_by     word                           the process is well until a request with this word has come
    sick_pid    pid                            only this process is sick, or hangs; the next one is well
    how         "status" | "event" | "late"    the error is a whole answer of status 500, the first event of
                                               a stream, or comes after the first token of one
                "long" | "short" | "closes" | "garbage" | "cut"
                                               no error, but an answer that is shorter or longer than its
                                               length, none, one that is no HTTP, a stream without its end
    own_fault   word                           a request with this word gets an error that is its own,
    own_text    text                           or one of this text, while others are answered
"""

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

HERE = Path(sys.argv[0]).absolute()
FILE = HERE.with_name(f"{HERE.name}.json")
STARTED = time.monotonic()
FOR_EVER_S = 3600
COMPUTES = ("completion", "chat", "messages", "responses", "embedding", "infill", "rerank")
OWN_FAULT = "Failed to apply template: decode() failed: vk::Queue::submit: ErrorDeviceLost, said the client"
TOKEN = b'data: {"content":"x","choices":[]}'
alone = threading.Lock()
touched = threading.Event()  # by the word that makes it sick


def behaviour() -> Mapping[str, object]:
    """What to do now."""
    given = json.loads(value("--behave") or "{}")
    try:
        return dict(json.loads(FILE.read_text()), **given)
    except (OSError, ValueError):
        return dict(given)


def is_sick(wanted: Mapping[str, object], said: bytes) -> bool:
    """Whether this process cannot compute now."""
    if "sick" not in wanted or wanted.get("sick_pid", os.getpid()) != os.getpid():
        return False
    if int(value("-c") or 0) <= int(str(wanted.get("sick_above", -1))):
        return False
    if str(wanted.get("sick_by", "")).encode() in said:
        touched.set()
    return touched.is_set()


def seconds(name: str) -> float:
    """How long something takes."""
    return float(str(behaviour().get(name, 0)))


def loading() -> bool:
    """Whether the model is still on its way."""
    slow = behaviour().get("slow_model")
    if slow is not None and str(slow) in (value("-m") or ""):
        return True
    return time.monotonic() - STARTED < seconds("ready_after_s")


def value(flag: str) -> str | None:
    """The argument after ``flag``."""
    return sys.argv[sys.argv.index(flag) + 1] if flag in sys.argv else None


class Handler(BaseHTTPRequestHandler):
    """The four calls that qwenctl makes, and a client's."""

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        del format, args

    def do_GET(self) -> None:
        self.obey()
        if self.path == "/health":
            self.answer({"status": "loading" if loading() else "ok"}, 503 if loading() else 200)
        elif self.path == "/slots":
            self.answer(behaviour().get("busy", [{"id": 0, "is_processing": False}]))
        else:
            self.answer({"object": "list", "data": []})

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.obey()
        if self.path.startswith("/slots/"):
            self.act_on_slot()
            return
        if loading():
            self.answer({"error": {"message": "Loading model", "code": 503}}, 503)
            return
        answer_s, one_slot = seconds("answer_s") if "chat" in self.path else 0.0, behaviour().get("one_slot")
        time.sleep(0.0 if one_slot else answer_s)
        spin_s = seconds("spin")
        with alone:
            time.sleep(answer_s if one_slot else 0.0)
            until = time.monotonic() + spin_s
            while time.monotonic() < until:
                pass
        wanted = behaviour()
        if str(wanted.get("own_fault", "no such word")).encode() in said:
            text = wanted.get("own_text", OWN_FAULT)
            self.answer({"error": {"code": 500, "message": text, "type": "server_error"}}, 500)
        elif any(name in self.path for name in COMPUTES) and is_sick(wanted, said):
            self.be_sick(str(wanted["sick"]), str(wanted.get("how", "status")))
        elif b'"stream":true' in said.replace(b" ", b""):
            self.stream(TOKEN, b'data: {"content":"","stop":true}', b"data: [DONE]")
        else:
            self.answer({"content": "x", "choices": [], "pid": os.getpid()})

    def be_sick(self, text: str, how: str) -> None:
        """Answer as a server does that cannot compute."""
        print(behaviour().get("sick_says", ""), flush=True)
        error = {"error": {"code": 500, "message": text, "type": "server_error"}}
        event = b"data: " + json.dumps(error).encode()
        match how:
            case "status":
                self.answer(error, 500)
            case "event":
                self.stream(event)
            case "late":
                self.stream(TOKEN, event)
            case "cut":
                self.stream(TOKEN)
            case "long" | "short":
                self.answer({"content": "x" * 99}, length=1000 if how == "long" else 20)
            case "garbage":
                self.wfile.write(b"\x00\x01 no HTTP at all\r\n\r\n")
            case _:
                pass
        self.close_connection = True

    def stream(self, *events: bytes) -> None:
        """Answer with events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events:
            self.wfile.write(event + b"\n\n")
            self.wfile.flush()
            time.sleep(0.01)
        self.close_connection = True

    def act_on_slot(self) -> None:
        """Say that the slot was saved or restored."""
        action = self.path.partition("action=")[2]
        time.sleep(seconds(f"{action}_s"))
        self.answer({"n_saved": 5000, "n_written": 1, "n_restored": 5000})

    def obey(self) -> None:
        wanted = behaviour()
        hang = wanted.get("hang") if wanted.get("sick_pid", os.getpid()) == os.getpid() else None
        if hang == "all" or (hang == "but_health" and self.path != "/health"):
            time.sleep(FOR_EVER_S)
        if self.path != "/health" and alone.locked():
            with alone:
                pass

    def answer(self, body: object, code: int = 200, length: int | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)


def end() -> None:
    """End, after a while if that is wanted."""
    time.sleep(seconds("term_s"))
    os._exit(0)


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> int:
    """Answer a question about itself, or serve."""
    if "--help" in sys.argv or "--list-devices" in sys.argv:
        hold()
    if "--help" in sys.argv:
        print((HERE.with_name("help.txt")).read_text())
        return 0
    if "--version" in sys.argv:
        print("version: 0 (fake)", file=sys.stderr)
        return 0
    if "--list-devices" in sys.argv:
        print("Available devices:\n  (none)")
        return 0
    return serve(behaviour())


def hold() -> None:
    """Wait as long as we are to say nothing, and somebody waits for it."""
    parent, named = os.getppid(), behaviour().get("holds")
    if named is None:
        return
    held = Path(str(named))
    while held.exists() and os.getppid() == parent:
        held.with_suffix(".asked").touch()
        time.sleep(0.02)


def serve(wanted: Mapping[str, object]) -> int:
    """Serve until a signal comes."""
    ends = wanted.get("exit")
    if isinstance(ends, dict):
        print(ends.get("say", ""), flush=True)
        return int(ends["code"])
    if "oom_above" in wanted and int(value("-c") or 0) > int(str(wanted["oom_above"])):
        print("ggml_aligned_malloc: insufficient memory (attempted to allocate 263.02 MB)", flush=True)
        return 1
    left = int(str(wanted.get("say_bytes", 0)))
    line = b"x" * 99 + b"\n"
    while left > 0:
        left -= os.write(1, line * 500)
    if wanted.get("grandchild"):
        subprocess.Popen(["/bin/sleep", str(FOR_EVER_S)])
    ignore = wanted.get("ignore_term")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ignore else lambda *_: end())
    host, port = value("--host") or "127.0.0.1", value("--port")
    server = TcpServer((host, int(port)), Handler) if port else UnixServer(host, Handler)
    print("listening", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
