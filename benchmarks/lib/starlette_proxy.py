"""The usual proxy, to compare with: Starlette and httpx. Run by gate_cost with a Python that has them."""

# mypy: disable-error-code="import-not-found"

import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

SOCKET, PORT = sys.argv[1], int(sys.argv[2])
TRANSPORT = httpx.AsyncHTTPTransport(uds=SOCKET, limits=httpx.Limits(max_connections=None))
CLIENT = httpx.AsyncClient(transport=TRANSPORT, timeout=httpx.Timeout(300))


async def forward(request: Request) -> StreamingResponse:
    """Pass one request on."""
    url = "http://x" + request.url.path
    sent = CLIENT.build_request(
        request.method, url, content=await request.body(), headers={"connection": "close"}
    )
    answer = await CLIENT.send(sent, stream=True)

    async def body() -> AsyncIterator[bytes]:
        async for data in answer.aiter_raw():
            yield data
        await answer.aclose()

    return StreamingResponse(body(), answer.status_code, {"content-type": answer.headers["content-type"]})


app = Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])
uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", access_log=False)
