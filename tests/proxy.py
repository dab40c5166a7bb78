"""A TCP proxy between a client and a Redis that can fail in ways a network can.

It forwards bytes and counts replies per named command, so that a test can say: lose the answer to the second EVALSHA.
The request has then been carried out; only its answer is gone, and the connection with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


class Proxy:
    """Open it with `open_proxy`; then set what shall fail."""

    def __init__(self, socket_path: Path) -> None:
        self.url = ""
        self.requests: Counter[bytes] = Counter()  # by what was looked for in them, see `watch`
        self.held = asyncio.Event()  # a request is on its way and does not arrive, see `hold`
        self.latency = 0.0  # of every answer, in seconds
        self._socket_path = socket_path
        self._flows = asyncio.Event()
        self._flows.set()
        self._watched: set[bytes] = set()
        self._lost: set[tuple[bytes, int]] = set()
        self._held: set[tuple[bytes, int]] = set()
        self._arrives = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self.serving: set[asyncio.Task[Any]] = set()

    def watch(self, text: bytes) -> None:
        """Count the requests that hold this text."""
        self._watched.add(text)

    def lose_reply(self, text: bytes, number: int = 1) -> None:
        """Lose the answer to the n-th request, from now, that holds this text, and break its connection."""
        self.watch(text)
        self._lost.add((text, self.requests[text] + number))

    def hold(self, text: bytes, number: int = 1) -> None:
        """Hold the n-th request, from now, that holds this text, and what its connection sends behind it.

        It arrives after `deliver`, even when its connection is long broken: then nobody hears the answer.
        """
        self.watch(text)
        self._held.add((text, self.requests[text] + number))

    def deliver(self) -> None:
        """Let what is held arrive."""
        self._arrives.set()

    def freeze(self) -> None:
        """Hold everything back, both ways, until `thaw`: connections stay, late requests arrive late."""
        self._flows.clear()

    def thaw(self) -> None:
        """Let it go on its way."""
        self._flows.set()

    def reset(self) -> None:
        """Break every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection of a client. (A client waits for its answer before its next request: no pipelining.)"""
        if (task := asyncio.current_task()) is not None:
            self.serving.add(task)
            task.add_done_callback(self.serving.discard)
        server, requests = await asyncio.open_unix_connection(self._socket_path, limit=CHUNK)
        self._open |= {answers, requests}
        loses = asyncio.Event()
        back = asyncio.create_task(self._answer(server, answers, loses), name="proxy answers")
        with contextlib.suppress(OSError):
            while request := await client.read(CHUNK):
                for text in self._watched:
                    if text in request:
                        self.requests[text] += 1
                        if (text, self.requests[text]) in self._lost:
                            loses.set()
                        if (text, self.requests[text]) in self._held:
                            requests = await self._hold(requests)
                await self._flows.wait()
                requests.write(request)
        back.cancel()
        await asyncio.gather(back, return_exceptions=True)
        for writer in (answers, requests):
            writer.transport.abort()
        self._open -= {answers, requests}

    async def _hold(self, requests: asyncio.StreamWriter) -> asyncio.StreamWriter:
        """Where the held request arrives: on a way of its own when the connection broke meanwhile."""
        self.held.set()
        await self._arrives.wait()
        if requests.is_closing():
            _, requests = await asyncio.open_unix_connection(self._socket_path)
            self._open.add(requests)
        return requests

    async def _answer(self, server: asyncio.StreamReader, answers: asyncio.StreamWriter, loses: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while answer := await server.read(CHUNK):
                if loses.is_set():
                    break
                await self._flows.wait()
                await asyncio.sleep(self.latency)
                answers.write(answer)
        answers.transport.abort()


@contextlib.asynccontextmanager
async def open_proxy(socket_path: Path) -> AsyncIterator[Proxy]:
    """A proxy in front of the server at this socket."""
    proxy = Proxy(socket_path)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=CHUNK)
    async with server:
        proxy.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        yield proxy
        proxy.thaw()
        proxy.deliver()
        proxy.reset()
        await asyncio.gather(*proxy.serving)
