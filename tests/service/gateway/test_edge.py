from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress

import httpx
import pytest
import structlog.testing

import service.gateway.body
from service.wiring import Runtime

Open = Callable[..., AbstractAsyncContextManager[tuple[Runtime, httpx.AsyncClient]]]
EVENTS = "/api/v1/events"


@pytest.fixture
async def opened(open_gateway: Open) -> AsyncIterator[tuple[Runtime, httpx.AsyncClient]]:
    """A gateway without any account: what stands here is about none."""
    async with open_gateway() as opened:
        yield opened


REFUSED = [
    ("GET", "/nothing", 404),
    ("GET", "/api/v1/events/", 404),
    ("GET", EVENTS, 405),
    ("HEAD", EVENTS, 405),
    ("OPTIONS", EVENTS, 405),
    ("OPTIONS", "/livez", 405),
    ("DELETE", "/metrics", 405),
    ("PUT", "/api/v1/webhooks/github", 405),
    ("POST", "/livez", 405),
    ("POST", EVENTS, 401),
    ("POST", "/api/v1/webhooks/nobody", 404),
]


async def test_every_refusal_is_a_problem_document(http: httpx.AsyncClient) -> None:
    for method, path, status in REFUSED:
        answer = await http.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path
        if status == 405:
            assert answer.headers["allow"]
        if method != "HEAD":
            problem = answer.json()
            assert set(problem) == {"type", "title", "status", "detail"}
            assert (problem["type"], problem["status"]) == ("about:blank", status)
            assert problem["detail"]


async def test_what_can_be_got_can_be_headed(http: httpx.AsyncClient) -> None:
    for path in ("/", "/livez", "/readyz", "/metrics", "/api/v1/health"):
        answer = await http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


async def test_every_answer_has_the_security_headers(http: httpx.AsyncClient) -> None:
    for path in ("/", "/livez", "/nothing", EVENTS, "/api/v1/health"):
        headers = (await http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "server" not in headers


async def test_a_fault_of_ours_is_a_problem_too_without_a_word_about_it(
    runtime: Runtime, rest: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise LookupError("the innards")

    monkeypatch.setattr(runtime.registry, "health", broken)
    with structlog.testing.capture_logs() as lines:
        answer = await rest.get("/api/v1/health", headers={"X-Request-Id": "r-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert (answer.headers["x-request-id"], answer.headers["x-content-type-options"]) == ("r-1", "nosniff")
    assert "innards" not in answer.text
    assert any("innards" in str(line.get("error")) for line in lines)
    assert (await rest.get("/livez")).status_code == 200


async def test_a_request_id_is_given_back_or_made(http: httpx.AsyncClient) -> None:
    assert (await http.get("/livez", headers={"X-Request-Id": "deploy-42"})).headers["x-request-id"] == "deploy-42"
    made = [(await http.get("/livez")).headers["x-request-id"] for _ in range(2)]
    assert len(set(made)) == 2


async def test_a_request_id_that_could_forge_a_line_is_replaced(http: httpx.AsyncClient) -> None:
    for given in ("a b", "x" * 101, "<script>", '"', "a\tb"):
        assert (await http.get("/livez", headers={"X-Request-Id": given})).headers["x-request-id"] != given


async def test_each_request_is_one_line_with_route_and_status(http: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as lines:
        await http.post("/api/v1/webhooks/secret-name", headers={"Authorization": "Bearer s3cr3t"})
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/api/v1/webhooks/{integration}", 404)
    assert "s3cr3t" not in repr(lines)


# -- Host ------------------------------------------------------------------------------------------------------------


HOSTS = [
    ("hooks.example.com", 200),
    ("HOOKS.example.com:443", 200),
    ("a.internal.example", 200),
    ("[::1]:8080", 200),
    ("example.com", 400),
    ("internal.example", 400),
    ("evilinternal.example", 400),
    ("hooks.example.com.evil.example", 400),
    ("hooks.example.com/?#", 400),
    ("hooks.example.com@evil.example", 400),
    ("[", 400),
    ("x/?#", 400),
]


async def test_only_hosts_of_the_list_are_answered(open_gateway: Open) -> None:
    allowed = ("hooks.example.com", "*.internal.example", "[::1]")
    async with open_gateway(allowed_hosts=allowed) as (_, http):
        for host, status in HOSTS:
            answer = await http.get("/livez", headers={"Host": host})
            assert answer.status_code == status, host
            if status == 400:
                assert answer.headers["content-type"] == "application/problem+json"


async def test_a_host_can_not_choose_the_path_that_is_authorised(http: httpx.AsyncClient) -> None:
    """Starlette before 1.0.1 took part of the Host for the path (CVE-2026-48710)."""
    for host in ("x/?#", "[", "livez/..", "a b"):
        assert (await http.post(EVENTS, headers={"Host": host}, json={"type": "team.x"})).status_code == 401, host


# -- bodies that do not come -----------------------------------------------------------------------------------------


async def test_a_body_that_does_not_come_is_408_and_ends_the_connection(
    http: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.gateway.body, "BODY_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b"half")
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["detail"] == "the body did not come within 0.3 s"
    writer.close()


async def test_a_body_that_drips_is_cut_off_too(rest: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.gateway.body, "BODY_SECONDS", 0.3)

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" "
            await asyncio.sleep(0.02)
        pytest.fail("it waited for all of it")

    with suppress(httpx.WriteError, httpx.ReadError):  # hung up on before its answer was read
        assert (await rest.post(EVENTS, content=drip())).status_code == 408


async def test_what_is_left_of_a_refused_body_is_not_taken_for_a_request(http: httpx.AsyncClient) -> None:
    smuggled = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled)}\r\n\r\n"
    writer.write(head.encode())
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.write(smuggled)
    async with asyncio.timeout(10):
        rest = await reader.read()
    assert b"HTTP/1.1" not in rest
    writer.close()


async def test_a_caller_that_hangs_up_in_the_middle_harms_nobody(http: httpx.AsyncClient) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(b"POST /api/v1/webhooks/slack HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()
    assert (await http.get("/livez")).status_code == 200
