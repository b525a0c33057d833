"""Addresses open and close while the gate runs: no client is refused and no answer is cut."""

import asyncio
import json
import socket
import sys
import threading
from dataclasses import replace

import aiohttp
import pytest

from qwenctl.engine.address import Address
from qwenctl.errors import SettingsError
from qwenctl.gate.gate import Gate
from qwenctl.gate.guard import rules
from qwenctl.gate.listening_sockets import CAN_OVERLAP, accept_waiting, bind, refuse_handshakes
from qwenctl.gate.options import GateOptions
from tests.gate.conftest import Play
from tests.gate.driver import Driver, until

CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
STREAM = CHAT | {"stream": True, "max_tokens": 1500, "ignore_eos": True}
WIDE = GateOptions(rules=rules("0.0.0.0", (), ()), allow_open=True)
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE_S = 10
ELSEWHERE = "192.0.2.7"
"""Source: RFC 5737, an address for documentation."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def health(port: int) -> int:
    """Status of a new connection's answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await ask_health(reader, writer)
    finally:
        writer.close()


async def ask_health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    writer.write(HEALTH)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(head.split()[1])


def can_bind(port: int, *, shared: bool) -> bool:
    """Whether another program of this user could listen there. ``shared``: it asks for a shared port."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        try:
            stranger.bind(("127.0.0.1", port))
            stranger.listen()
        except OSError:
            return False
        return True


class Connecting(threading.Thread):
    """A client that connects all the time. ``answered`` counts, ``failures`` tells what went wrong."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.answered = port, 0
        self.failures: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
                    connection.sendall(HEALTH)
                    if not connection.recv(4096).startswith(b"HTTP/1.1 "):
                        self.failures.append("no answer")
            except OSError as error:
                self.failures.append(repr(error))
            self.answered += 1

    async def end(self) -> None:
        self.ending.set()
        await asyncio.to_thread(self.join)


async def answered_since(clients: list[Connecting], before: list[int]) -> None:
    """Wait until each client has had another answer."""
    await until(lambda: all(each.answered > count for each, count in zip(clients, before, strict=True)))


def test_a_new_port_opens_before_the_old_one_stops_accepting_and_its_stream_goes_on(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        old, new = Address("127.0.0.1", free_port()), Address("127.0.0.1", free_port())
        assert old.port is not None
        assert new.port is not None
        await driver.gate.open(old, driver.options)
        kept = await asyncio.open_connection("127.0.0.1", old.port)
        assert await ask_health(*kept) == 200
        async with session.post(f"{old.url}/v1/chat/completions", json=STREAM) as stream:
            first = await stream.content.readuntil(b"\n\n")
            await driver.gate.open(new, driver.options)
            assert (await health(old.port), await health(new.port)) == (200, 200)
            await driver.gate.close(old)
            assert set(driver.gate.addresses) == {new, Address("127.0.0.1", driver.port)}
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", old.port)
            assert await ask_health(*kept) == 200  # this connection has one more answer
            assert await asyncio.wait_for(kept[0].read(), PATIENCE_S) == b""
            body = first + await stream.content.read()
        assert body.endswith(b"data: [DONE]\n\n")
        assert b'"error"' not in body
        assert await health(new.port) == 200
        kept[1].close()

    playing(scenario)


@pytest.mark.parametrize("held", [True, False], ids=["held", "streaming"])
def test_a_request_on_a_closed_address_is_answered(playing: Play, *, held: bool) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        old = Address("127.0.0.1", free_port())
        await driver.gate.open(old, driver.options)
        if not held:
            await driver.up()
        asking = asyncio.create_task(session.post(f"{old.url}/v1/chat/completions", json=STREAM).__aenter__())
        await until(lambda: driver.gate.stats().held + driver.gate.stats().in_flight == 1)
        await driver.gate.close(old)
        if held:
            await driver.up()
        answer = await asking
        assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        assert answer.headers.get("Connection") == "close"
        answer.release()

    playing(scenario, up=False)


def test_a_client_in_the_queue_of_an_address_that_closes_is_answered(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        old = Address("127.0.0.1", free_port())
        await driver.gate.open(old, driver.options)
        queued = socket.create_connection((old.host, old.port))  # the loop has not accepted it yet
        await driver.gate.close(old)
        reader, writer = await asyncio.open_connection(sock=queued)
        assert await ask_health(reader, writer) == 503
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()

    playing(scenario, up=False)


@pytest.mark.skipif(not CAN_OVERLAP, reason="the sockets do not overlap on this system")
def test_a_client_that_connects_to_a_closing_socket_reaches_the_one_that_took_over() -> None:
    async def story() -> None:
        port = free_port()
        (narrow,) = await bind(Address("127.0.0.1", port))
        (wide,) = await bind(Address("0.0.0.0", port), beside=(narrow,))
        refuse_handshakes(narrow)
        connecting = asyncio.create_task(asyncio.open_connection("127.0.0.1", port))
        await asyncio.sleep(0)  # it has sent its first packet
        assert list(accept_waiting(narrow)) == []
        narrow.close()
        _, writer = await asyncio.wait_for(connecting, PATIENCE_S)
        (accepted,) = accept_waiting(wide)
        for each in (writer, accepted, wide):
            each.close()

    asyncio.run(story())


def test_no_client_is_refused_while_the_host_changes_on_one_port(playing: Play) -> None:
    """Six clients connect all the time. A stream that began at the first address goes on to its end."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        port = free_port()
        narrow, wide = Address("127.0.0.1", port), Address("0.0.0.0", port)
        await driver.gate.open(narrow, driver.options)
        clients = [Connecting(port) for _ in range(6)]
        for each in clients:
            each.start()
        async with session.post(f"{narrow.url}/v1/chat/completions", json=STREAM) as stream:
            for old, new, options in 3 * ((narrow, wide, WIDE), (wide, narrow, driver.options)):
                before = [each.answered for each in clients]
                await driver.gate.open(new, options)
                await driver.gate.close(old)
                await answered_since(clients, before)
            assert (await stream.read()).endswith(b"data: [DONE]\n\n")
        for each in clients:
            await each.end()
        assert [failure for each in clients for failure in each.failures] == []

    playing(scenario)


def test_another_program_cannot_bind_the_port_after_its_host_changed(playing: Play) -> None:
    """Not even one that asks for a shared port."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        port = free_port()
        narrow, wide = Address("127.0.0.1", port), Address("0.0.0.0", port)
        await driver.gate.open(narrow, driver.options)
        named = Address("localhost", port)
        changes = ((narrow, wide, WIDE), (wide, narrow, driver.options), (narrow, named, driver.options))
        for old, new, options in changes:
            await driver.gate.open(new, options)
            for _ in range(2):
                for shared in (False, True):
                    assert not can_bind(port, shared=shared)
                await driver.gate.close(old)

    playing(scenario, up=False)


@pytest.mark.parametrize("can_overlap", [True, False], ids=["overlapping", "one after the other"])
def test_an_address_that_is_taken_leaves_the_old_one_open(playing: Play, *, can_overlap: bool) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        port = free_port()
        narrow, wide = Address("127.0.0.1", port), Address("0.0.0.0", port)
        gate = Gate(driver, (), driver.kept, driver.options, can_overlap=can_overlap)
        try:
            await gate.open(narrow, driver.options)
            with socket.create_server(("127.0.0.2", port)), pytest.raises(OSError, match="in use"):
                await gate.open(wide, WIDE)
            assert gate.addresses == (narrow,)
            assert await health(port) == 503
            await gate.open(wide, WIDE)
            await gate.close(narrow)
            assert gate.addresses == (wide,)
            assert await health(port) == 503
        finally:
            await gate.stop()

    playing(scenario, up=False)


def test_a_name_with_several_addresses_listens_on_each(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        port = free_port()
        await driver.gate.open(Address("localhost", port), driver.options)
        for family, _, _, _, where in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
            if family == socket.AF_INET or socket.has_dualstack_ipv6():
                _, writer = await asyncio.open_connection(str(where[0]), port)
                writer.close()

    playing(scenario, up=False)


def test_opening_an_open_address_again_only_replaces_its_rules(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        here = Address("127.0.0.1", driver.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", driver.port)
        foreign = b"GET /health HTTP/1.1\r\nHost: llm.home\r\n\r\n"
        for hosts, status in (((), 403), (("llm.home",), 503)):
            if hosts:
                await driver.gate.open(here, replace(driver.options, rules=rules("127.0.0.1", hosts, ())))
                assert driver.gate.addresses == (here,)
                assert await ask_health(reader, writer) == 503  # the same connection goes on
            async with session.get(driver.url + "/health", headers={"Host": "llm.home"}) as answer:
                assert answer.status == status
        writer.write(foreign)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), PATIENCE_S)).startswith(b"HTTP/1.1 503")
        writer.close()

    playing(scenario, up=False)


def test_an_address_of_the_network_is_not_opened_and_not_left_without_a_key(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        (driver.folder / "keys").write_text("sesame\n")
        wide = Address("0.0.0.0", free_port())
        without = GateOptions(rules=WIDE.rules)
        with pytest.raises(SettingsError, match="without a key"):
            await driver.gate.open(wide, without)
        assert wide not in driver.gate.addresses
        await driver.gate.open(wide, replace(without, key_file=str(driver.folder / "keys")))
        for key_file in (None, "/nowhere", "~nobody-here/keys"):
            with pytest.raises(SettingsError):
                driver.gate.configure(replace(without, key_file=key_file))
        for url, status in ((wide.url, 401), (driver.url, 200)):
            async with session.post(url + "/tokenize", json={"content": "x"}) as answer:
                assert answer.status == status
        right = {"Authorization": "Bearer sesame"}
        async with session.post(wide.url + "/tokenize", json={"content": "x"}, headers=right) as answer:
            assert json.loads(await answer.read())["tokens"]

    playing(scenario)


def test_two_changes_of_addresses_at_once_are_made_one_after_the_other(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        ports = [free_port() for _ in range(3)]
        places = [Address("127.0.0.1", port) for port in ports]
        await asyncio.gather(*(driver.gate.open(each, driver.options) for each in (*places, *places)))
        await asyncio.gather(*(driver.gate.close(each) for each in (*places[:2], *places[:2])))
        assert set(driver.gate.addresses) == {places[2], Address("127.0.0.1", driver.port)}
        assert await health(ports[2]) == 503

    playing(scenario, up=False)


def test_one_setting_may_name_several_addresses(playing: Play) -> None:
    """llama-server reads ``--host`` so; each of the addresses counts when it is asked who could come in."""
    both = "127.0.0.1, 127.0.0.2"

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        port = free_port()
        options = replace(driver.options, rules=rules(both, (), ()))
        await driver.gate.open(Address(both, port), options)
        for host in ("127.0.0.1", "127.0.0.2"):
            async with session.get(f"http://{host}:{port}/health") as answer:
                assert answer.status == 200
        wide = GateOptions(rules=rules(f"127.0.0.1,{ELSEWHERE}", (), ()))
        with pytest.raises(SettingsError, match="without a key"):
            await driver.gate.open(Address(f"127.0.0.1,{ELSEWHERE}", free_port()), wide)

    if sys.platform != "linux":
        pytest.skip("only Linux has all of 127.0.0.0/8 by itself")
    playing(scenario)
    assert Address(both, 80).url == "http://127.0.0.1:80"
    assert Address("::1,127.0.0.1", 80).url == "http://[::1]:80"
