"""The attacks that were tried, and what each one gets. By value first, then on the wire."""

import asyncio
import json
import socket
from pathlib import Path

import aiohttp
import pytest

from qwenctl.errors import SettingsError
from qwenctl.gate.api_keys import KeyRing
from qwenctl.gate.guard import Deny, Enter, GuardQuestion, KeyCheck, Preflight, check_exposure, judge, rules
from qwenctl.gate.options import GateLimits
from tests.gate.conftest import Play
from tests.gate.driver import Driver, Setup, until

LOCAL = rules("127.0.0.1", (), ())
LISTED = rules("127.0.0.1", ("llm.home", "*.lan"), ("https://chat.example", "chrome-extension://*"))
CHAT = "/v1/chat/completions"


def ask(
    method: str = "POST",
    target: str = CHAT,
    host: str = "localhost:8080",
    origin: str | None = None,
    key: KeyCheck = KeyCheck.OPEN,
    *,
    site: str | None = None,
    mode: str | None = None,
    upgrade: str | None = None,
    asked: str | None = None,
) -> GuardQuestion:
    hosts = tuple(host.split("|")) if host else ()
    return GuardQuestion(method, target, hosts, origin, site, mode, upgrade, asked, key)


def status(verdict: Enter | Preflight | Deny) -> int:
    return verdict.status if isinstance(verdict, Deny) else 200 if isinstance(verdict, Enter) else 204


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "LOCALHOST.", "127.0.0.1:1", "127.8.8.8", "[::1]:80"]
)
def test_loopback_hosts_may_come_in(host: str) -> None:
    assert status(judge(ask(host=host), LOCAL)) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "192.168.1.7",
        "",
        "localhost@evil",
        "a b",
        "[::1",
    ],
)
def test_other_hosts_may_come_in_only_with_a_valid_key(host: str) -> None:
    """DNS rebinding: the page's own name points at loopback."""
    assert status(judge(ask(host=host), LOCAL)) == 403
    assert status(judge(ask(host=host, key=KeyCheck.VALID), LOCAL)) == 200
    assert status(judge(ask(host=host, key=KeyCheck.WRONG), LOCAL)) == 403


def test_a_request_with_two_host_headers_is_refused() -> None:
    assert status(judge(ask(host="localhost|evil.example"), LOCAL)) == 400


def test_a_request_without_a_host_is_told_what_it_lacks() -> None:
    """HTTP/1.0 has no Host header, and simple health checks speak it."""
    denied = judge(ask(host=""), LOCAL)
    assert isinstance(denied, Deny)
    assert (denied.message, denied.hint) == (
        "cannot answer: the request has no Host header",
        "send Host: localhost",
    )


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        (None, "localhost", 200),
        ("http://localhost:3000", "localhost:8080", 200),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", 200),
        ("https://evil.example", "localhost:8080", 403),
        ("http://localhost.evil.example", "localhost:8080", 403),
        ("http://evil.example", "evil.example", 403),
        ("null", "localhost:8080", 403),
        ("file://", "localhost:8080", 403),
        ("chrome-extension://abc", "localhost:8080", 403),
    ],
)
def test_pages_of_other_sites_are_refused(origin: str | None, host: str, expected: int) -> None:
    assert status(judge(ask(origin=origin, host=host), LOCAL)) == expected


def test_listed_hosts_and_origins_may_come_in_and_no_others() -> None:
    for origin in ("https://chat.example", "chrome-extension://abcdef"):
        assert judge(ask(origin=origin), LISTED) == Enter(CHAT, origin)
    assert status(judge(ask(origin="https://chat.example.evil"), LISTED)) == 403
    for host, expected in (("llm.home:80", 200), ("a.lan", 200), ("lan", 403), ("llm.home.evil", 403)):
        assert status(judge(ask(host=host), LISTED)) == expected


def test_a_page_that_the_gate_served_to_the_network_may_use_its_own_origin() -> None:
    """Bound to every address: an address is no rebound name, and the page came from here."""
    wide = rules("0.0.0.0", (), ())
    own = ask(origin="http://192.168.1.7:8080", host="192.168.1.7:8080")
    assert status(judge(own, wide)) == 200
    assert status(judge(ask(origin="http://evil.example", host="192.168.1.7:8080"), wide)) == 403
    assert status(judge(ask(host="evil.example"), wide)) == 403


def test_a_cross_site_request_without_an_origin_is_refused() -> None:
    """An image or script tag sends no Origin, but the browser says where it is from."""
    assert status(judge(ask("GET", "/v1/models", site="cross-site", mode="no-cors"), LOCAL)) == 403
    assert status(judge(ask("GET", "/", site="cross-site", mode="navigate"), LOCAL)) == 200
    assert status(judge(ask("GET", "/v1/models", site="same-origin", mode="cors"), LOCAL)) == 200


def test_preflights_are_answered_for_allowed_origins_only() -> None:
    assert judge(ask("OPTIONS", origin="https://chat.example", asked="POST"), LISTED) == Preflight(
        "https://chat.example"
    )
    assert status(judge(ask("OPTIONS", origin="https://evil.example", asked="POST"), LISTED)) == 403
    missing = ask("OPTIONS", origin="https://chat.example", asked="POST", key=KeyCheck.MISSING)
    assert isinstance(judge(missing, LISTED), Preflight)  # a browser sends no key with it


@pytest.mark.parametrize("key", [KeyCheck.MISSING, KeyCheck.WRONG])
def test_without_the_key_only_the_page_and_health_are_public(key: KeyCheck) -> None:
    for path in ("/", "/health", "/index.html", "/bundle.js", "/_app/immutable/x.css", "/favicon.ico?v=1"):
        assert status(judge(ask("GET", path, key=key), LOCAL)) == 200
    for method, path in (
        ("POST", CHAT),
        ("GET", "/v1/models"),
        ("GET", "/props"),
        ("GET", "/metrics"),
        ("POST", "/index.html"),
        ("POST", "/health"),
        ("GET", "/v1/models?x=/a.js"),
        ("GET", "/v1/chat/completions"),
    ):
        assert status(judge(ask(method, path, key=key), LOCAL)) == 401


@pytest.mark.parametrize(
    "target",
    [
        "/slots",
        "/slots/0?action=save",
        "/SLOTS",
        "/x/slots",
        "//slots",
        "/./slots",
        "/a/../slots",
        "/%73lots",
        "/slots%2f0",
        "/%2fslots",
        "/slots%00",
        "/slots\\0",
        "/slots;x",
        "/slots/",
        "http://localhost/slots",
        "*",
        "slots",
        "/slo%74s",
        "/slots#x",
        "/ slots",
        "/\u0131slots\x80",
    ],
)
def test_no_spelling_of_a_path_reaches_the_slots(target: str) -> None:
    for key in (KeyCheck.OPEN, KeyCheck.VALID):
        verdict = judge(ask("POST", target, key=key), LOCAL)
        allowed = target == "/slots;x"  # another path for the server too, which answers 404
        assert (status(verdict) == 200) is allowed


@pytest.mark.parametrize("target", ["/props", "/props?x=1", "/PROPS", "/props/", "/x/props"])
def test_properties_are_read_only(target: str) -> None:
    assert status(judge(ask("POST", target, key=KeyCheck.VALID), LOCAL)) == 403
    assert status(judge(ask("GET", target), LOCAL)) == 200


@pytest.mark.parametrize("target", ["/v1/models/a%20b", "/v1/files/a.b-c_d~e", "/x?y=%2e%2e/&z=//", "/a@b:c"])
def test_paths_in_their_plain_form_may_come_in(target: str) -> None:
    assert status(judge(ask("GET", target), LOCAL)) == 200


def test_odd_methods_and_upgrades_are_refused() -> None:
    assert status(judge(ask("CONNECT", "/"), LOCAL)) == 405
    assert status(judge(ask("TRACE", "/"), LOCAL)) == 405
    assert status(judge(ask("GET", "/", upgrade="WebSocket"), LOCAL)) == 501
    assert status(judge(ask("GET", "/", upgrade="h2c"), LOCAL)) == 200


def test_an_address_of_the_network_needs_a_key_or_allow_open() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        check_exposure(host, has_keys=False, allow_open=False)
    for host in ("0.0.0.0", "::", "192.168.1.7", "llm.home"):
        with pytest.raises(SettingsError, match="without a key"):
            check_exposure(host, has_keys=False, allow_open=False)
        check_exposure(host, has_keys=True, allow_open=False)
        check_exposure(host, has_keys=False, allow_open=True)


@pytest.mark.parametrize("host", ["127.0.0.1;::1", "127.0.0.1 ::1", ","])
def test_several_addresses_with_another_separator_are_told_the_right_one(host: str) -> None:
    with pytest.raises(SettingsError, match="no address") as refused:
        check_exposure(host, has_keys=True, allow_open=True)
    assert "commas" in str(refused.value.hint)


def test_keys_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# mine\nalpha\n\n beta \n")
    ring = KeyRing(path, ("gamma",))
    for key in ("alpha", "beta", "gamma"):
        assert ring.check(f"Bearer {key}", None) is KeyCheck.VALID
        assert ring.check(None, key) is KeyCheck.VALID
    assert ring.check("Bearer # mine", None) is KeyCheck.WRONG
    assert ring.check("Basic alpha", None) is KeyCheck.MISSING
    assert ring.check("Bearer ", "") is KeyCheck.MISSING
    assert ring.check("Bearer alpha\udcff", None) is KeyCheck.WRONG
    other = tmp_path / "new"
    other.write_text("delta\n")
    other.replace(path)
    assert ring.check("bearer delta", None) is KeyCheck.VALID
    assert ring.check("Bearer alpha", None) is KeyCheck.WRONG
    path.unlink()
    assert ring.check("Bearer delta", None) is KeyCheck.VALID  # an editor replaces the file in two steps
    path.write_text("")
    assert ring.check("Bearer delta", None) is KeyCheck.WRONG
    with pytest.raises(SettingsError, match="holds none"):
        KeyRing(path)
    with pytest.raises(SettingsError, match="no such file"):
        KeyRing(tmp_path / "missing")


async def raw(driver: Driver, text: str | bytes) -> bytes:
    """Send bytes as they are and return the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", driver.port)
    writer.write(text.encode("latin-1") if isinstance(text, str) else text)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


def test_the_guard_is_asked_about_every_request_that_comes_over_the_network(
    playing: Play, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("sesame\n")

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        url, right = driver.url, {"Authorization": "Bearer sesame"}
        for headers, expected in (
            ({}, 401),
            ({"Authorization": "Bearer sesam"}, 401),
            ({"X-Api-Key": "sesame"}, 200),
            (right, 200),
            (right | {"Host": "evil.example"}, 200),
            ({"Host": "evil.example"}, 403),
            (right | {"Origin": "https://evil.example"}, 403),
        ):
            async with session.post(url + "/tokenize", json={"content": "x"}, headers=headers) as answer:
                assert answer.status == expected, headers
                assert "Access-Control-Allow-Origin" not in answer.headers
        async with session.post(
            url + "/tokenize", json={}, headers={"Origin": "https://chat.example"}
        ) as answer:
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (
                401,
                "https://chat.example",
            )
            assert (await answer.json())["error"]["code"] == "invalid_api_key"
        asked = {
            "Origin": "https://chat.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, x-a",
            "Access-Control-Request-Private-Network": "true",
        }
        async with session.options(url + CHAT, headers=asked) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Headers"] == "authorization, x-a"
            assert answer.headers["Access-Control-Allow-Private-Network"] == "true"

    playing(scenario, lambda: Setup(key_file=str(tmp_path / "keys"), origins=("https://chat.example",)))


POST = "POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = "POST /slots/0?action=erase HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SMUGGLING_REQUESTS = {
    "both lengths": f"{POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "two lengths": f"{POST}Content-Length: 0\r\nContent-Length: 90\r\n\r\n{SMUGGLED}",
    "odd coding": f"{POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "space before colon": f"{POST}Content-Length : 90\r\n\r\n{SMUGGLED}",
    "folded header": f"{POST}X: y\r\n Content-Length: 90\r\n\r\n{SMUGGLED}",
    "negative length": f"{POST}Content-Length: -1\r\n\r\n{SMUGGLED}",
    "bad chunk": f"{POST}Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{SMUGGLED}",
    "bare line feeds": POST.replace("\r", "") + "Content-Length: 0\n\n" + SMUGGLED,
    "header of 20,000 bytes": f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 20000}\r\n\r\n",
    "line of 20,000 bytes": f"GET /{'x' * 20000} HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "300 headers": "GET / HTTP/1.1\r\nHost: localhost\r\n"
    + "".join(f"X{n}: y\r\n" for n in range(300))
    + "\r\n",
    "absolute form": "GET http://evil.example/slots HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "no host": "GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n",
    "nul in path": "GET /v1/\0models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
}


def test_a_request_that_hides_in_another_reaches_no_slot(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        for name, text in SMUGGLING_REQUESTS.items():
            got = await raw(
                driver,
                text.replace("Content-Length: 0\r\n\r\n", "Content-Length: 0\r\nConnection: close\r\n\r\n"),
            )
            first = got[:15]
            assert b"action=erase" not in driver.output, name
            assert got.count(b"HTTP/1.1 2") <= (1 if name == "bare line feeds" else 0), (name, first)
            assert got == b"" or got.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 2")), (name, first)
        async with session.get(driver.url + "/health") as answer:
            assert answer.status == 200

    playing(scenario)


def test_clients_that_send_too_slowly_are_disconnected(playing: Play) -> None:
    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        assert await raw(driver, "POST /tokenize HTTP/1.1\r\nHost: loc") == b""
        got = await raw(driver, "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
        assert got.startswith(b"HTTP/1.1 408")
        assert json.loads(got[got.index(b"{") :])["error"]["code"] == "slow"

    playing(scenario, lambda: Setup(limits=GateLimits(keepalive_s=0.3, body_timeout_s=0.3)), up=False)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])
def test_a_client_that_stops_reading_is_disconnected(playing: Play, *, stream: bool) -> None:
    """It would hold a slot, or the memory of its answer, for as long as it likes."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        del session
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", driver.port))
        asked = {"prompt": "hi", "n_predict": -1, "stream": True, "ignore_eos": True, "n_probs": 50}
        path = "/completion"
        if not stream:
            path, asked = (
                "/tokenize",
                {"content": "a" * 900_000, "with_pieces": True},
            )  # 20 MB, kept until whole
        body = json.dumps(asked).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        await asyncio.to_thread(sock.sendall, head.encode() + body)
        await until(lambda: driver.gate.stats().blocked)
        await until(lambda: not driver.gate.stats().blocked)
        assert driver.gate.stats().in_flight == 0
        got = b""
        while data := await asyncio.to_thread(sock.recv, 65536):  # what the kernel still had for it
            got += data
        sock.close()
        assert got.startswith(b"HTTP/1.1 200")
        assert not got.endswith((b"\r\n0\r\n\r\n", b"]}"))

    limits = GateLimits(stall_s=0.3, answer_bytes=1 << 26)
    playing(scenario, lambda: Setup(limits=limits, context=131072, warm_after_s=0.0))


def test_the_access_log_has_no_prompt_and_no_key(playing: Play, caplog: pytest.LogCaptureFixture) -> None:
    """The one test that looks at a log: what must not be in it is the promise."""

    async def scenario(driver: Driver, session: aiohttp.ClientSession) -> None:
        headers = {"Authorization": "Bearer hunter2"}
        async with session.post(
            driver.url + "/tokenize?api_key=hunter2", json={"content": "my secret"}, headers=headers
        ) as answer:
            assert answer.status == 200
        async with session.get(driver.url + "/slots?key=hunter2", headers=headers) as answer:
            assert answer.status == 403

    with caplog.at_level("INFO", logger="qwenctl.gate.access_log"):
        playing(scenario)
    lines = [record.getMessage() for record in caplog.records if record.name == "qwenctl.gate.access_log"]
    assert ["path=/tokenize status=200" in lines[0], "path=/slots status=403" in lines[1]] == [True, True]
    assert "hunter2" not in caplog.text
    assert "secret" not in caplog.text
