"""Around every request: an id, the Host check, security headers, an answer to what nobody foresaw, one log line."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventbus.event import new_id
from service.gateway.problems import Problem, answer

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

_CLOSE = {"Connection": "close"}
"""Where the body was not read to its end: what is still on its way would be taken for the next request."""
_CUT = (408, 413)
REST_SECONDS = 1.0
REST_BYTES = 64 * 1024
"""What of an unwanted body is still taken: who is hung up on while sending may lose the answer (RFC 9112, 9.6)."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")

_log = structlog.get_logger("service.gateway")


class Edge:
    """Middleware. `allowed_hosts`: exact names, `*.example.com` for every name below it, `*` for any."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._allowed = [host.lower() for host in allowed_hosts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        own = {**SECURITY_HEADERS, "X-Request-Id": given if _REQUEST_ID.fullmatch(given) else new_id()}
        began, status = time.perf_counter(), 0
        is_read = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"

        async def receiving() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if not is_read and status not in _CUT and "expect" not in headers:
                    await _take_rest(receiving)
                ends = _CLOSE if status in _CUT or not is_read else {}
                MutableHeaders(scope=message).update(own | _named(scope) | ends)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=own["X-Request-Id"]):
            try:
                self._check_host(headers.get("host", ""))
                await self._app(scope, receiving, sending)
            except Exception as error:  # noqa: BLE001  whatever it is, its caller gets an answer
                problem = await answer(Request(scope), error)
                if not status:
                    await problem(scope, receiving, sending)
            finally:
                _log.info(
                    "request",
                    method=scope["method"],
                    route=getattr(scope.get("route"), "path", "-"),
                    status=status,
                    ms=round((time.perf_counter() - began) * 1000, 1),
                )

    def _check_host(self, header: str) -> None:
        name = re.sub(r":\d*$", "", header.lower())  # the port; what is in the brackets of an IPv6 address stays
        for allowed in self._allowed:
            if allowed in ("*", name) or (allowed.startswith("*.") and name.endswith(allowed[1:])):
                return
        raise Problem(400, "this Host is not answered here: gateway.allowed_hosts names those that are")


async def _take_rest(receive: Receive) -> None:
    left = REST_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(REST_SECONDS):
            while left > 0 and (message := await receive()).get("more_body"):
                left -= len(message["body"])


def _named(scope: Scope) -> dict[str, str]:
    """The idempotency key that the request stands under, once it has one."""
    key = scope.get("state", {}).get("idempotency_key")
    return {} if key is None else {"Idempotency-Key": key}
