"""A stand-in of a service on a real port of this machine: the base of every adapter's `fake.py`.

A subclass says its `routes()` and keeps the service's own rules: its status codes, limits and errors. What all of them
can do stands here: count what arrived, be out of order on request, and commit an effect but lose the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

When = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived, and the status it was given (None: the answer was withheld)."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    status: int | None


class Held:
    """A request whose effect is committed while its caller still waits for the answer."""

    def __init__(self) -> None:
        self.committed = asyncio.Event()
        self.released = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next request meets: a status instead of service, or silence before or after the effect is committed.

    patient  silence goes on until the caller gives up; otherwise the connection is cut
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    silent: When | None = None
    patient: bool = False
    held: Held | None = None


class FakeService:
    """Runs in the caller's event loop: `async with FakeSlack() as slack: ... slack.url`."""

    reject_credentials = False
    """Set it, and the service answers as it does to a revoked token."""

    def __init__(self, *, port: int = 0) -> None:
        self.requests: list[Recorded] = []
        self._faults: deque[Fault] = deque()
        self._outage: Fault | None = None
        # With its protocol named: asyncio takes no other for TCP, and leaves Nagle's algorithm on, 40 ms an answer.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    def routes(self) -> Sequence[BaseRoute]:
        """What the service answers."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The smallest config of the adapter that points here."""
        raise NotImplementedError

    def effects(self) -> list[str]:
        """The truth: every effect that exists here, in the order it came to be, one line each."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where it listens, or did, without a slash at the end."""
        return f"http://127.0.0.1:{self._port}"

    # -- faults ----------------------------------------------------------------------------------------------------

    def fail(self, status: int, *, times: int = 1, body: str = "", headers: dict[str, str] | None = None) -> None:
        """Answer the next requests with this status, having done nothing."""
        self._faults.extend([Fault(status=status, body=body, headers=headers or {})] * times)

    def swallow(self, when: When, *, times: int = 1) -> None:
        """Cut the next connections without an answer: before the effect is committed, or after."""
        self._faults.extend([Fault(silent=when)] * times)

    def stall(self, when: When, *, times: int = 1) -> None:
        """Leave the next callers without an answer until they give up: before the effect is committed, or after."""
        self._faults.extend([Fault(silent=when, patient=True)] * times)

    def hold(self) -> Held:
        """Commit the next effect, then keep the caller waiting until `released` is set: the moment to kill it."""
        held = Held()
        self._faults.append(Fault(held=held))
        return held

    def go_down(self, status: int = 503) -> None:
        """Answer everything with this status until `come_back`."""
        self._outage = Fault(status=status)

    def come_back(self) -> None:
        """End an outage; drop planned faults."""
        self._outage = None
        self._faults.clear()

    # -- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        app = _Wire(self, Starlette(routes=list(self.routes())))
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        with contextlib.suppress(AttributeError):
            self._server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]  # signals are the host program's
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.005)
            if self._serving.done():
                await self._serving
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._serving is not None
        self._server.should_exit = True
        await self._serving
        self._socket.close()


class _Wire:
    """Records each request, plays the planned fault, then lets the service answer."""

    def __init__(self, fake: FakeService, app: ASGIApp) -> None:
        self.fake = fake
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        status: int | None = None

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        async def withhold(message: Message) -> None:
            """The effect happened; nobody hears of it."""

        fault = self.fake._outage or (self.fake._faults.popleft() if self.fake._faults else Fault())  # noqa: SLF001
        if fault.status is not None:
            answer = PlainTextResponse(fault.body, fault.status, headers=fault.headers)
            await answer(scope, replay, note)
        elif fault.silent is not None:
            if fault.silent == "after":
                await self.app(scope, replay, withhold)
        elif fault.held is not None:
            kept: list[Message] = []

            async def keep(message: Message) -> None:
                kept.append(message)

            await self.app(scope, replay, keep)
            fault.held.committed.set()
            await fault.held.released.wait()
            for message in kept:
                await note(message)
        else:
            await self.app(scope, replay, note)
        path = scope["path"] + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        self.fake.requests.append(Recorded(scope["method"], path, dict(request.headers), body, time.time(), status))
        if fault.patient:
            await given_up(receive)
        elif fault.silent is not None:
            # An announced body that never comes: the server closes the connection, the client sees it break.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
            raise ConnectionAbortedError


async def given_up(receive: Receive) -> None:
    """Return when the caller has hung up (ASGI specification, HTTP, "Disconnect - receive event")."""
    while (await receive())["type"] != "http.disconnect":
        pass
