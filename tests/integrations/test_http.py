"""The way out over HTTP against real ports that behave, misbehave and are not there."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import logging
import resource
import socket
import ssl
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from integrations.errors import (
    AuthFailed,
    IntegrationError,
    Misconfigured,
    NotReady,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    ServiceFault,
    Unreachable,
)
from integrations.exchange import listening
from integrations.http import MAX_ANSWER_BYTES, Answer, Http, check

SECRET_PATH = "/services/T000/canary-in-the-path"
SECRET_QUERY = "token=canary-in-the-query"
SECRET_HEADERS = {"Authorization": "Bearer canary-in-a-header", "X-Key": "canary-in-another"}

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def port(talk: Talk) -> AsyncIterator[str]:
    """A server that says what `talk` says, once it has read the head of a request; yields its secret address."""
    talking: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had enough
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    number = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{number}{SECRET_PATH}?{SECRET_QUERY}"
    finally:
        server.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking)


def says(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return talk


def reply(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http(timeout=timedelta(seconds=5)) as http:
        yield http


# -- what an exchange can come to --------------------------------------------------------------------------------------


async def test_an_answer_is_returned_whatever_its_status(http: Http) -> None:
    async with port(says(reply("418 I'm a teapot", b"short and stout", "X-Kind: Teapot"))) as url:
        answer = await http.request("POST", url, content=b"coffee")
    assert (answer.status, answer.body, answer.headers["x-kind"]) == (418, b"short and stout", "Teapot")


async def test_what_we_send_arrives_as_it_is(http: Http) -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readexactly(6))
        writer.write(reply("204 No Content"))

    async with port(talk) as url:
        await http.request("POST", url, content=b"\x00coffee"[1:], headers={"User-Agent": "mine"})
    assert seen == [b"coffee"]


async def test_a_refused_connection_means_that_nothing_was_done(http: Http) -> None:
    with pytest.raises(Unreachable, match="Connect call failed"):
        await http.request("GET", f"http://127.0.0.1:{closed_port()}/")


async def test_a_host_without_address_means_that_nothing_was_done(http: Http) -> None:
    with pytest.raises(Unreachable):
        await http.request("GET", "http://no-such-host.invalid/")  # RFC 2606, section 2: never has an address


async def test_a_failed_tls_handshake_means_that_nothing_was_done(http: Http) -> None:
    async def speak_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply("400 Bad Request"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak_plainly, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Unreachable, match="SSL"):
            await http.request("GET", f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


async def test_a_handshake_that_hangs_means_that_nothing_was_done() -> None:
    async with Http(connect=timedelta(seconds=0.2)) as http, port(silence) as url:
        # No ClientHello is the head of a request: the server waits for the rest of it for ever.
        with pytest.raises(Unreachable, match=r"took no connection within 0\.2 s"):
            await http.request("GET", url.replace("http:", "https:"))


async def test_no_answer_in_time_leaves_the_outcome_unknown(http: Http) -> None:
    async with port(silence) as url:
        started = time.monotonic()
        with pytest.raises(OutcomeUnknown, match=r"did not answer within 0\.2 s"):
            await http.request("POST", url, content=b"x", timeout=timedelta(seconds=0.2))
        assert time.monotonic() - started < 2


async def test_the_time_limit_holds_for_the_whole_exchange_not_for_each_byte(http: Http) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with port(drip) as url:
        with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s"):
            await http.request("GET", url, timeout=timedelta(seconds=0.3))


async def test_a_call_may_take_longer_than_the_clients_own_limit_when_it_says_so() -> None:
    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(reply("204 No Content"))

    async with Http(timeout=timedelta(seconds=0.1)) as http, port(late) as url:
        assert (await http.request("GET", url, timeout=timedelta(seconds=5))).status == 204


async def test_a_cancelled_call_is_cancelled_and_not_an_error_of_the_service(http: Http) -> None:
    async with port(silence) as url:
        call = asyncio.create_task(http.request("GET", url))
        await asyncio.wait([call], timeout=0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="before the answer"),
        pytest.param(b"HTTP/1.1 200 O", id="within the head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", id="within the body"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="not HTTP at all"),
    ],
)
async def test_a_connection_that_breaks_after_the_request_leaves_the_outcome_unknown(http: Http, said: bytes) -> None:
    async with port(says(said)) as url:
        with pytest.raises(OutcomeUnknown):
            await http.request("POST", url, content=b"x")


async def test_a_redirect_is_an_answer_and_is_not_followed(http: Http) -> None:
    async with (
        port(says(reply("200 OK", b"the wrong place"))) as elsewhere,
        port(says(reply("302 Found", b"", f"Location: {elsewhere}"))) as url,
    ):
        answer = await http.request("GET", url)
    assert (answer.status, answer.body) == (302, b"")


async def test_a_cookie_is_not_sent_back(http: Http) -> None:
    heads: list[bytes] = []

    async with asyncio.timeout(5):
        server = await asyncio.start_server(lambda r, w: _answer_with_cookie(r, w, heads), "127.0.0.1", 0)
        async with server:
            for _ in range(2):
                await http.request("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def _answer_with_cookie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heads: list[bytes]) -> None:
    heads.append(await reader.readuntil(b"\r\n\r\n"))
    writer.write(reply("200 OK", b"", "Set-Cookie: track=me; Path=/"))
    await writer.drain()
    writer.close()


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{closed_port()}")
    async with Http() as http, port(says(reply("204 No Content"))) as url:
        assert (await http.request("GET", url)).status == 204


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("ftp://canary-host/x", id="another scheme"),
        pytest.param("canary-in-the-path", id="no scheme"),
        pytest.param("http://", id="no host"),
        pytest.param("http://[::1/canary-in-the-path", id="half an IPv6 address"),
        pytest.param("http://127.0.0.1/\x00canary-in-the-path", id="a control character"),
        pytest.param("http://127.0.0.1/\ud800canary-in-the-path", id="a lone surrogate"),
    ],
)
async def test_an_address_that_is_none_is_a_misconfiguration(http: Http, url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        await http.request("GET", url)
    assert "canary-in" not in str(caught.value)


@pytest.mark.parametrize("value", ["canary\r\nX-Injected: 1", "canary\x00", "canary-\u00e9", "canary-\ud800"])
async def test_a_header_that_http_does_not_allow_is_a_misconfiguration(http: Http, value: str) -> None:
    async with port(says(reply("204 No Content"))) as url:
        with pytest.raises(Misconfigured) as caught:
            await http.request("GET", url, headers={"X-Key": value})
    assert "canary" not in str(caught.value)


# -- size --------------------------------------------------------------------------------------------------------------


async def test_an_oversize_body_is_cut() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with Http() as http, port(flood) as url:
        answer = await http.request("GET", url)
    assert len(answer.body) == MAX_ANSWER_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
async def test_a_compressed_answer_is_unpacked(http: Http, encoding: str) -> None:
    packed = gzip.compress(b"plain text")
    async with port(says(reply("200 OK", packed, f"Content-Encoding: {encoding}"))) as url:
        assert (await http.request("GET", url)).text == "plain text"


async def test_a_compressed_answer_that_is_broken_is_kept_as_it_came(http: Http) -> None:
    async with port(says(reply("200 OK", b"not gzip", "Content-Encoding: gzip"))) as url:
        assert (await http.request("GET", url)).text == "not gzip"


async def test_a_gzip_bomb_is_cut_before_it_fills_the_memory(http: Http) -> None:
    packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    assert len(bomb) < MAX_ANSWER_BYTES
    async with port(says(reply("200 OK", bomb, "Content-Encoding: gzip"))) as url:
        tracemalloc.start()
        try:
            answer = await http.request("GET", url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(answer.body) == MAX_ANSWER_BYTES
    assert peak < 10 * MAX_ANSWER_BYTES


async def test_a_caller_may_want_less_of_an_answer(http: Http) -> None:
    async with port(says(reply("200 OK", b"x" * 1000))) as url:
        assert (await http.request("GET", url, max_answer=10)).body == b"x" * 10


async def test_a_gigabyte_in_chunks_is_cut_at_the_socket_and_memory_stays_flat(http: Http) -> None:
    poured = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal poured
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        for _ in range(1024):
            writer.write(chunk)
            await writer.drain()
            poured += 1 << 20

    async with port(pour) as url:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = await http.request("GET", url, max_answer=65_536)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (answer.status, len(answer.body)) == (200, 65_536)
    assert poured < 64 << 20, "the server could pour what the sockets hold, and no more"
    assert grown < 32 * 1024, f"the process grew by {grown} KiB"


# -- where others choose the address -----------------------------------------------------------------------------------


class Names:
    """The resolver's answers, in order; the last one stays. Everything else is resolved as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.asked = 0
        self._answers = list(answers)
        self._really = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)

    def _answer(self, host: str, number: int, *rest: object, **more: object) -> object:
        if host != "receiver.example":
            return self._really(host, number, *rest, **more)  # type: ignore[arg-type]
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        kinds = {address: socket.AF_INET6 if ":" in address else socket.AF_INET for address in answer}
        return [(kind, socket.SOCK_STREAM, 6, "", (address, number)) for address, kind in kinds.items()]


@asynccontextmanager
async def guarded(*allow: str, connect: float = 3) -> AsyncIterator[Http]:
    async with Http(connect=timedelta(seconds=connect)) as plain:
        client = plain.guarded(allow)
        try:
            yield client
        finally:
            await client.close()


def at_receiver(url: str) -> str:
    return url.replace("127.0.0.1", "receiver.example")


async def test_a_guarded_client_connects_to_no_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, ["127.0.0.1"])
    heard: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append("a request")

    async with port(talk) as url, guarded() as http:
        with pytest.raises(Misconfigured, match=r"127\.0\.0\.1 is not public \(loopback\)"):
            await http.request("GET", url)
        with pytest.raises(Unreachable, match=r"has the address 127\.0\.0\.1, which is not public"):
            await http.request("GET", at_receiver(url))
        for odd in ("2130706433", "0x7f.1", "127.1", "0177.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"):
            with pytest.raises(Misconfigured):
                await http.request("GET", url.replace("127.0.0.1", odd))
    assert (heard, names.asked) == ([], 1)


@pytest.mark.parametrize("place", [0, 1])
async def test_one_private_address_of_a_name_spoils_them_all(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    answer = ["8.8.8.8", "2606:4700::1"]
    answer.insert(place, "10.0.0.5")
    Names(monkeypatch, answer)
    async with guarded() as http:
        with pytest.raises(Unreachable, match=r"has the address 10\.0\.0\.5, which is not public"):
            await http.request("GET", "https://receiver.example/")


async def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: harmless when it is asked first, private from then on."""
    names = Names(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply("200 OK", b"the checked one"))
        await writer.drain()
        writer.close()

    async with port(says(reply("200 OK", b"the private one"))) as url, guarded("127.0.0.2") as http:
        number = int(url.split(":")[2].split("/")[0])
        async with await asyncio.start_server(serve, "127.0.0.2", number):
            answer = await http.request("GET", at_receiver(url))
            assert (answer.body, names.asked) == (b"the checked one", 1)
            assert f"Host: receiver.example:{number}\r\n".encode() in heads[0]
            with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
                await http.request("GET", at_receiver(url))


async def test_the_tls_handshake_names_the_host_and_not_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Names(monkeypatch, ["127.0.0.1"])
    named: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda connection, name, of: named.append(name)

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(nothing, "127.0.0.1", 0, ssl=context) as server, guarded("127.0.0.1") as http:
        with pytest.raises(Unreachable, match="SSL"):  # it has no certificate
            await http.request("GET", f"https://receiver.example:{server.sockets[0].getsockname()[1]}/")
    assert named == ["receiver.example"]


async def test_what_a_client_with_more_exceptions_is_connected_to_another_does_not_reuse() -> None:
    async with Http() as open_to_all, port(says(reply("204 No Content"))) as url:
        client = open_to_all.guarded()
        assert (await open_to_all.request("GET", url)).status == 204
        with pytest.raises(Misconfigured):
            await client.request("GET", url)
        await client.close()


async def test_a_redirect_to_where_a_cloud_keeps_its_credentials_is_not_followed() -> None:
    there = "Location: http://169.254.169.254/latest/meta-data/"
    async with port(says(reply("302 Found", b"", there))) as url, guarded("127.0.0.1") as http:
        assert (await http.request("GET", url)).status == 302
        with pytest.raises(Misconfigured, match="hands out the credentials"):
            await http.request("GET", "http://169.254.169.254/latest/meta-data/")


async def test_a_guarded_client_uses_no_proxy_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    async with guarded("127.0.0.1") as http, port(says(reply("204 No Content"))) as url:
        assert (await http.request("GET", url)).status == 204


def hanging(address: str, number: int) -> list[socket.socket]:
    """A port whose queue of connections is full: one more gets no answer (Linux drops it)."""
    full = socket.socket()
    full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    full.bind((address, number))
    full.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(full.getsockname())
    return [full, *waiting]


async def test_an_address_that_does_not_answer_holds_the_next_one_back_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with port(says(reply("204 No Content"))) as url, guarded("127.0.0.0/8") as http:
        taken = hanging("127.0.0.3", int(url.split(":")[2].split("/")[0]))
        Names(monkeypatch, ["127.0.0.3", "127.0.0.4", "127.0.0.1"])  # hangs, refuses, answers
        started = time.monotonic()
        assert (await http.request("GET", at_receiver(url))).status == 204
        assert time.monotonic() - started < 2
    for one in taken:
        one.close()


async def test_the_time_to_connect_is_one_for_all_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    number = closed_port()
    taken = [one for last in (3, 4, 5, 6) for one in hanging(f"127.0.0.{last}", number)]
    Names(monkeypatch, [f"127.0.0.{last}" for last in (3, 4, 5, 6)])
    async with guarded("127.0.0.0/8", connect=0.6) as http:
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"took no connection within 0\.6 s"):
            await http.request("GET", f"http://receiver.example:{number}/")
        assert time.monotonic() - started < 1.5
    for one in taken:
        one.close()


async def test_a_name_that_does_not_exist_means_that_nothing_was_done() -> None:
    async with guarded() as http:
        with pytest.raises(Unreachable, match="ConnectError"):
            await http.request("GET", "http://no-such-host.invalid/")


async def test_what_the_guard_refuses_stands_in_the_trail_too() -> None:
    async with guarded() as http:
        with listening() as heard, pytest.raises(Misconfigured):
            await http.request("POST", f"http://127.0.0.1{SECRET_PATH}")
    assert [one.request for one in heard] == ["POST http://127.0.0.1"]
    assert "not public" in heard[0].answer


# -- what may be shown -------------------------------------------------------------------------------------------------


async def test_no_error_and_no_log_line_holds_path_query_or_header(
    http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    talks = [silence, says(b""), says(b"SSH-2.0\r\n\r\n"), says(reply("302 Found")), says(reply("200 OK"))]
    talks += [says(reply(f"{status} No")) for status in (401, 404, 429, 500)]
    for talk in talks:
        async with port(talk) as url:
            shown.append(await _told(http, url))
    shown.append(await _told(http, f"http://127.0.0.1:{closed_port()}{SECRET_PATH}?{SECRET_QUERY}"))
    assert all("127.0.0.1" in text for text in shown)
    assert "canary" not in "\n".join([*shown, caplog.text])


async def _told(http: Http, url: str) -> str:
    """What a person would read of one exchange."""
    try:
        answer = await http.request("GET", url, headers=SECRET_HEADERS, timeout=timedelta(seconds=0.3))
        check(answer, "http://127.0.0.1")
    except IntegrationError as error:
        return f"{error!r} {error} {error.__cause__!r}"
    return "http://127.0.0.1 is content"


@pytest.mark.parametrize(
    "echo",
    [
        f"Cannot POST {SECRET_PATH}?{SECRET_QUERY}",
        f"No service at {SECRET_PATH}",
        "No such team: canary-in-the-path",
        f"Bad query {SECRET_QUERY}",
        "Unknown token canary-in-the-query",
        f"You sent {SECRET_HEADERS}",
        "The key canary-in-a-header has expired",
    ],
)
async def test_a_service_that_repeats_our_secrets_is_not_quoted_with_them(http: Http, echo: str) -> None:
    async with port(says(reply("404 Not Found", echo.encode()))) as url:
        answer = await http.request("POST", url, headers=SECRET_HEADERS)
    with pytest.raises(Rejected) as caught:
        check(answer, "receiver")
    assert "canary" not in caught.value.detail
    assert echo.split()[0] in caught.value.detail, "the rest of what the service said is still there"


def test_an_excerpt_is_one_short_line_without_control_characters() -> None:
    body = b"first\r\nsecond\x1b[31m\x00\xff" + b"x" * 10_000
    excerpt = Answer(500, {}, body).excerpt()
    assert excerpt.startswith("first second [31m")
    assert len(excerpt) == 200
    assert excerpt.isprintable()


# -- Retry-After -------------------------------------------------------------------------------------------------------


def retry_after(value: str | None) -> timedelta | None:
    return Answer(429, {} if value is None else {"Retry-After": value}, b"").retry_after()


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0), ("7", 7), (" 7 ", 7), ("86401", 86_400), ("9" * 5000, 86_400)]
)
def test_retry_after_in_seconds_is_capped_at_a_day(value: str, seconds: int) -> None:
    assert retry_after(value) == timedelta(seconds=seconds)


def test_retry_after_as_a_date_is_the_time_until_then() -> None:
    wait = retry_after(email.utils.formatdate(time.time() + 90, usegmt=True))
    assert wait is not None
    assert 85 < wait.total_seconds() <= 90


def test_retry_after_as_a_date_in_the_past_is_no_wait() -> None:
    assert retry_after("Sun, 06 Nov 1994 08:49:37 GMT") == timedelta(0)


def test_retry_after_as_a_date_far_away_is_a_day() -> None:
    assert retry_after("Fri, 31 Dec 9999 23:59:59 GMT") == timedelta(days=1)


@pytest.mark.parametrize(
    "value", [None, "", "soon", "-5", "7.5", "1e3", "\u0667", "\u00b2", "06 Nov", "Sun, 99 Nov 1994"]
)
def test_a_retry_after_that_is_none_is_ignored(value: str | None) -> None:
    assert retry_after(value) is None


# -- what a status means -----------------------------------------------------------------------------------------------


def expected(status: int) -> type[IntegrationError] | None:
    if 200 <= status < 300:
        return None
    special: dict[int, type[IntegrationError]] = {
        401: AuthFailed,
        403: AuthFailed,
        408: NotReady,
        425: NotReady,
        429: RateLimited,
    }
    return special.get(status, ServiceFault if status >= 500 else Rejected)


def raised(answer: Answer) -> IntegrationError | None:
    try:
        check(answer, "acme")
    except IntegrationError as error:
        return error
    return None


def test_every_status_means_one_thing() -> None:
    for status in range(100, 600):
        error, kind = raised(Answer(status, {}, b"because")), expected(status)
        assert (None if error is None else type(error)) is kind, f"{status} became {error!r}"
        assert error is None or error.detail == f"acme answered {status}: because"


def test_an_answer_that_is_content_is_handed_on() -> None:
    answer = Answer(204, {}, b"")
    assert check(answer, "acme") is answer


@pytest.mark.parametrize(
    ("status", "kind"),
    [(408, NotReady), (425, NotReady), (429, RateLimited), (500, ServiceFault), (502, ServiceFault), (503, NotReady)],
)
def test_a_wait_that_the_service_names_is_kept(status: int, kind: type[IntegrationError]) -> None:
    with pytest.raises(kind) as caught:
        check(Answer(status, {"retry-after": "7"}, b""), "acme")
    assert type(caught.value) is kind
    assert caught.value.retry_after == timedelta(seconds=7)
