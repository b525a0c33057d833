"""What a proxy before llama-server costs: none, the daemon's gate, nginx, Starlette with httpx, a bare pipe.

Run from the repository's root: python -m benchmarks.gate_cost [--clients 1,8,64] [--seconds 6] [--rounds 3]
[--real] [--starlette PYTHON]. The daemon runs as users have it and starts the server; the others are put in
front of the same server's socket. Without --real that is a stand-in which sends each stream 100 events a
second, of the size that llama-server sends; with it the real server sends as fast as it can. Prints Markdown.
CPU is what the kernel's scheduler counted, of the proxy alone. The order of the proxies turns from round to
round, so that a busy machine is busy for all of them.
Takes about (seconds + 1.5) x rounds x proxies for each number of clients.
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
import psutil

from benchmarks.lib import paced_server
from benchmarks.lib.daemon import home
from tests.fakes.home import free_port

WARM_UP_S = 1.0
REAL = {"QWENCTL_CONTEXT__PARALLEL": "8", "QWENCTL_CONTEXT__TOKENS": "65536"}
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


@contextlib.contextmanager
def process(*argv: str) -> Iterator[psutil.Process]:
    """Run a program; end it at the end."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            yield psutil.Process(child.pid)
        finally:
            child.terminate()


def family(proxy: psutil.Process) -> list[psutil.Process]:
    """Return a proxy's processes: itself and its workers. The daemon's child is the server, not a worker."""
    return [proxy, *(each for each in proxy.children() if each.name() == "nginx")]


def cpu_s(proxy: psutil.Process) -> float:
    """Return the CPU time of a proxy, all threads."""
    threads = [task for each in family(proxy) for task in Path(f"/proc/{each.pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9


def wait_for(port: int) -> None:
    """Wait until something listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


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
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gc-", dir="/tmp")))
        where = stack.enter_context(home(**(REAL if real else paced(folder))))
        url = where.up().removesuffix("/v1")
        path = str(where.state / "child.sock")
        proxies: dict[str, tuple[str, psutil.Process | None]] = {
            "direct": (path, None),
            "gate": (url, psutil.Process(where.status()["daemon_pid"])),
        }
        for kind, words in commands(folder, path, starlette).items():
            port = free_port()
            argv = [word.replace("PORT", str(port)) for word in words]
            if kind == "nginx":
                user = "user root;" if os.getuid() == 0 else ""  # the socket's folder is ours alone
                text = NGINX.format(folder=folder, port=port, socket=path, user=user)
                (folder / "nginx.conf").write_text(text)
            proxies[kind] = (f"http://127.0.0.1:{port}", stack.enter_context(process(*argv)))
            wait_for(port)
        what = "real server, as fast as it can" if real else f"{paced_server.RATE} events/s a stream"
        print(f"{what}; {seconds:g} s, median of {rounds} rounds\n")
        print("| clients | proxy | events/s | of direct | first event ms | CPU us/event | RSS MB |")
        print("|---|---|---|---|---|---|---|")
        for count in clients:
            compare(proxies, count, seconds, rounds)


def paced(folder: Path) -> dict[str, str]:
    """Return the setting that makes the daemon start the stand-in."""
    binary = folder / "llama-server"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} {paced_server.__file__} "$@"\n')
    binary.chmod(0o700)
    return {"QWENCTL_SERVER__BINARY": str(binary)}


def commands(folder: Path, path: str, starlette: str | None) -> dict[str, list[str]]:
    """Return how the other proxies are started; PORT stands for theirs."""
    found = {"bare": [sys.executable, "-m", "benchmarks.lib.bare_proxy", path, "PORT"]}
    if nginx := shutil.which("nginx"):
        found["nginx"] = [nginx, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
    if starlette:
        found["starlette"] = [starlette, "benchmarks/lib/starlette_proxy.py", path, "PORT"]
    return found


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starlette", help="a Python that has starlette, uvicorn and httpx")
    parser.add_argument("--real", action="store_true")
    asked = parser.parse_args()
    counts = json.loads(f"[{asked.clients}]")
    run(counts, asked.seconds, asked.starlette, real=asked.real, rounds=asked.rounds)


if __name__ == "__main__":
    main()
