"""How much memory the gate takes for streams that it may have to finish: 64 streams of 100,000 tokens.

Run from the repository's root: python -m benchmarks.stream_memory [--streams 64] [--tokens 100000]
[--budget 268435456] [--schema]. A stand-in for llama-server sends events of its form, many at a time; where
there is a schema they have the counts that the gate asks for. The clients read them and stay. Prints
Markdown: the gate's memory (RSS) before, and with all streams at their end; the same without records, because
connections take memory, too; and whether the difference is within the budget. With a small budget (8388608)
streams for which there is no memory are passed on all the same, and can't be continued. Takes some minutes on
two cores.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import psutil

from benchmarks.gate_cost import wait_for
from tests.fakes.home import free_port

AT_ONCE = 200
FOREVER = aiohttp.ClientTimeout(total=None)
QUESTION = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
SCHEMA = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "it", "schema": {"type": "object"}}}
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = (
    'data: {{"choices":[{{"finish_reason":null,"index":0,"delta":{{"content":"w{:04d} "}}}}],"created":1,'
    '"id":"chatcmpl-hbnRbX4kycQH1EEDrgN6DaWfMqgVDO3G","model":"demo","system_fingerprint":"b0-unknown",'
    '"object":"chat.completion.chunk"{}}}\n\n'
)
TIMINGS = (
    ',"timings":{{"cache_n":0,"prompt_n":9,"prompt_ms":9.5,"predicted_n":{},'
    '"predicted_ms":100.5,"predicted_per_token_ms":1.5,"predicted_per_second":600.5}}'
)


async def serve(tokens: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one stream and leave it open."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        counts = TIMINGS if b"timings_per_token" in body else ""
        writer.write(HEAD)
        for first in range(0, tokens, AT_ONCE):
            numbers = range(first, first + AT_ONCE)
            events = "".join(EVENT.format(n % 10_000, counts.format(n + 1)) for n in numbers).encode()
            writer.write(b"%x\r\n%s\r\n" % (len(events), events))
            await writer.drain()
        await reader.read()
    writer.close()


async def measure(streams: int, tokens: int, budget: int, *, schema: bool, keep: bool) -> tuple[float, float]:
    """Return the memory of the gate before and after, in MB."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="qm-", dir="/tmp") as folder:
        child = str(Path(folder) / "s")
        argv = [sys.executable, "-m", "benchmarks.lib.lone_gate", child, str(port), str(budget)]
        argv.append("on" if keep else "off")
        gate = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            server = await asyncio.start_unix_server(lambda r, w: serve(tokens, r, w), child)
            await asyncio.to_thread(wait_for, port)
            memory = psutil.Process(gate.pid).memory_info
            before, arrived = memory().rss / 1e6, asyncio.Semaphore(0)
            bodies = [json.dumps(QUESTION | (SCHEMA if schema else {}))] * streams
            reading = [asyncio.create_task(read(port, body, tokens, arrived)) for body in bodies]
            ended = asyncio.create_task(_all_arrived(arrived, streams))
            await asyncio.wait({*reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            for task in reading:
                if task.done():
                    task.result()
            after = memory().rss / 1e6
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            server.close()
        finally:
            gate.communicate(b"")
    return before, after


async def _all_arrived(arrived: asyncio.Semaphore, streams: int) -> None:
    for _ in range(streams):
        await arrived.acquire()


async def read(port: int, body: str, tokens: int, arrived: asyncio.Semaphore) -> None:
    """Read one stream to its last token, and stay."""
    url, lines = f"http://127.0.0.1:{port}/v1/chat/completions", 0
    async with (
        aiohttp.ClientSession(read_bufsize=1 << 20, timeout=FOREVER) as session,
        session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer,
    ):
        while lines < 2 * tokens:
            data = await answer.content.readany()
            assert data, "the stream ended"
            assert b"timings" not in data, "counts that nobody asked for"
            lines += data.count(b"\n")
        arrived.release()
        await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=268_435_456)
    parser.add_argument("--schema", action="store_true")
    asked = parser.parse_args()
    print(f"{asked.streams} streams of {asked.tokens:,} tokens\n")
    print("| continue_streams | budget | memory before | memory after | more |\n|---|---|---|---|---|")
    more = {}
    for keep in (False, True):
        before, after = asyncio.run(
            measure(asked.streams, asked.tokens, asked.budget, schema=asked.schema, keep=keep)
        )
        more[keep] = after - before
        cells = (f"{mb:.0f} MB" for mb in (asked.budget / 1e6, before, after, more[keep]))
        print(f"| {str(keep).lower()} | {' | '.join(cells)} |", flush=True)
    records = more[True] - more[False]
    within = "within" if records * 1e6 <= asked.budget else "MORE THAN"
    print(f"\nThe records take {records:.0f} MB: {within} the budget.")


if __name__ == "__main__":
    main()
