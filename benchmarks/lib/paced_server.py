"""A stand-in for llama-server that sends each stream 100 events a second. Run by the daemon, for gate_cost.

Questions about itself go to the real binary; it listens on the Unix socket after ``--host``.
"""

import asyncio
import contextlib
import os
import sys

from qwenctl.engine.program_files import bundled_program

RATE = 100
ASKED = ("--help", "--version", "--list-devices")
EVENT = (
    b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"word"}}],"created":1795460297,'
    b'"id":"chatcmpl-hbnRbX4kycQH1EEDrgN6DaWfMqgVDO3G","model":"demo","system_fingerprint":"b0-unknown",'
    b'"object":"chat.completion.chunk"}\n\n'
)
COUNTED = EVENT.replace(
    b"}\n\n",
    b',"timings":{"cache_n":0,"prompt_n":9,"prompt_ms":9.5,"prompt_per_token_ms":1.05,'
    b'"prompt_per_second":947.4,"predicted_n":17,"predicted_ms":100.5,"predicted_per_token_ms":5.9,'
    b'"predicted_per_second":169.2}}\n\n',
)
"""The same with the counts of ``timings_per_token``, for who asks for them."""
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
CHUNKS = {False: CHUNK, True: b"%x\r\n%s\r\n" % (len(COUNTED), COUNTED)}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"content":"x"}'


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        streams = b"chat/completions" in head
        counted = streams and b"timings_per_token" in await reader.read(65_536)
        writer.write(HEAD if streams else PLAIN)
        due = loop.time()
        while streams:
            writer.write(CHUNKS[counted])
            await writer.drain()
            due += 1 / RATE
            await asyncio.sleep(max(due - loop.time(), 0))
    writer.close()


async def main(path: str) -> None:
    """Listen until the end."""
    async with await asyncio.start_unix_server(serve, path) as server:
        await server.serve_forever()


if __name__ == "__main__":
    if any(word in sys.argv for word in ASKED):
        real = str(bundled_program())
        os.execv(real, [real, *sys.argv[1:]])  # noqa: S606 - it answers in our place
    asyncio.run(main(sys.argv[sys.argv.index("--host") + 1]))
