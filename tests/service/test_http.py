from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import service.http
from eventbus import Misconfigured
from service.http import serving

PATIENCE_SECONDS = 10.0


class App:
    """Two addresses: one answers at once with its body, one when the test lets it."""

    def __init__(self) -> None:
        self.entered, self.release = asyncio.Event(), asyncio.Event()
        routes = [Route("/echo", self._echo, methods=["GET", "POST"]), Route("/wait", self._wait)]
        self.asgi = Starlette(routes=routes)

    async def _echo(self, request: Request) -> Response:
        assert request.client is not None
        return JSONResponse({"body": (await request.body()).decode(), "client": request.client.host})

    async def _wait(self, _: Request) -> Response:
        self.entered.set()
        await self.release.wait()
        return PlainTextResponse("done")


@pytest.fixture
async def app() -> App:
    return App()


@pytest.fixture
async def port(app: App) -> AsyncIterator[int]:
    async with serving(app.asgi, "127.0.0.1", 0) as port:
        yield port


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What came before the other side closed the connection."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_a_port_that_is_taken_is_named(port: int, app: App) -> None:
    with pytest.raises(Misconfigured, match=rf"can't listen on 127\.0\.0\.1:{port}: Address already in use"):
        async with serving(app.asgi, "127.0.0.1", port):
            pass


async def test_an_address_that_is_not_ours_is_named(app: App) -> None:
    with pytest.raises(Misconfigured, match=r"can't listen on 203\.0\.113\.7:0"):
        async with serving(app.asgi, "203.0.113.7", 0):
            pass


async def test_it_serves_ipv6_too(app: App) -> None:
    async with serving(app.asgi, "::1", 0) as port, httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"http://[::1]:{port}/echo")).json()["client"] == "::1"


async def test_the_port_is_free_again_afterwards(app: App) -> None:
    async with serving(app.asgi, "127.0.0.1", 0) as port:
        pass
    async with serving(app.asgi, "127.0.0.1", port) as again:
        assert again == port


async def test_a_running_request_ends_before_the_server_does(app: App) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        async with serving(app.asgi, "127.0.0.1", 0) as port:
            asked = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/wait"))
            await app.entered.wait()
            asyncio.get_running_loop().call_later(0.3, app.release.set)
        assert (await asked).text == "done"


async def test_a_request_that_never_ends_is_cut_off_after_the_grace(app: App) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        async with serving(app.asgi, "127.0.0.1", 0, grace=timedelta(seconds=1)) as port:
            asked = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/wait"))
            await app.entered.wait()
            began = time.monotonic()
        assert time.monotonic() - began < 5
        with suppress(httpx.HTTPError):
            assert (await asked).status_code == 500


async def test_idle_connections_do_not_keep_the_server_from_stopping(app: App) -> None:
    async with serving(app.asgi, "127.0.0.1", 0, grace=timedelta(seconds=30)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    writer.close()


async def test_signals_stay_with_the_program(port: int) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_the_server_does_not_say_what_it_is_made_of(port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        assert "server" not in (await http.get(f"http://127.0.0.1:{port}/echo")).headers


async def test_who_calls_is_what_the_socket_says(port: int) -> None:
    """A header can name anybody: no proxy is trusted to tell."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/echo", headers={"X-Forwarded-For": "203.0.113.9"})
    assert answer.json()["client"] == "127.0.0.1"


# -- slow and many ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"GET /echo HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half a head"])
async def test_a_head_that_does_not_come_ends_the_connection(
    port: int, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(service.http, "HEAD_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(start)
    assert await closed(reader) == b""
    writer.close()


async def test_a_head_that_drips_does_not_move_its_deadline(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.http, "HEAD_SECONDS", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\n")

    async def drip() -> None:
        while not writer.is_closing():
            writer.write(b"X: y\r\n")
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    began = time.monotonic()
    assert await closed(reader) == b""
    assert time.monotonic() - began < 3
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    writer.close()


async def test_the_deadline_holds_for_the_second_request_of_a_connection_too(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.http, "HEAD_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /ec")
    await closed(reader)
    writer.close()


async def test_a_request_that_is_being_answered_is_under_no_deadline(
    app: App, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.http, "HEAD_SECONDS", 0.2)
    async with httpx.AsyncClient(trust_env=False) as http:
        asked = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/wait"))
        await app.entered.wait()
        asyncio.get_running_loop().call_later(0.6, app.release.set)
        assert (await asked).text == "done"


async def test_a_head_of_endless_length_is_refused(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /echo HTTP/1.1\r\nX: " + b"y" * 70_000)
    assert (await closed(reader)).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_many_idle_connections_stop_nobody(port: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(300):
            connection = socket.socket()
            stack.callback(connection.close)
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            connection.send(b"GET /echo HTTP/1.1\r\n")
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        began = time.monotonic()
        for _ in range(20):
            assert (await http.get(f"http://127.0.0.1:{port}/echo")).status_code == 200
        assert time.monotonic() - began < 2


async def test_connections_are_bounded_and_the_ones_above_are_told(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.http, "MAX_CONNECTIONS", 2)
    async with serving(app.asgi, "127.0.0.1", 0) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/echo")).status_code == 503
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()


def test_no_answer_waits_for_the_acknowledgement_of_the_one_before() -> None:
    """asyncio switches Nagle's algorithm off for sockets whose protocol is named (base_events, _set_nodelay)."""
    with service.http._bound("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
