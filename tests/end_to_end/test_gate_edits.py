"""The gate is edited while it is used, and no client notices."""

import asyncio
import socket

from tests.fakes.gate_clients import Editor, asking, edits, fill_slot, kept_slot, play
from tests.fakes.home import Home, free_port

SLOTS = 3
ONLY_IN_THE_BENCHMARK = ("a key file without keys", "an address that is not ours")


def test_no_edit_of_the_gate_cuts_an_answer_refuses_a_client_or_touches_a_slot(home: Home) -> None:
    home.environment |= {"QWENCTL_CONTEXT__PARALLEL": str(SLOTS), "QWENCTL_CONTEXT__TOKENS": "2048"}
    Editor(home).save(f'profile = "demo"\n[server]\nport = {home.port}\n')
    ran = home.run("up")
    assert ran.code == 0, ran.err
    fill_slot(home.port)
    before = kept_slot(home)

    async def scenario(taken: int) -> None:
        async with asking(home.port, SLOTS, streams=2, plain=4) as clients:
            made = edits(home.path, taken, (free_port(), free_port()))
            await play(home, clients, [edit for edit in made if edit.name not in ONLY_IN_THE_BENCHMARK])
        assert clients.faults == []
        assert clients.counts["stream: answered"] > 4
        assert clients.counts["plain: answered"] > 8

    with socket.create_server(("127.0.0.1", 0)) as other:
        asyncio.run(scenario(other.getsockname()[1]))
    assert kept_slot(home) == before
