"""The network between the programs of a fault run and Redis, which can lose answers, break, swallow either way, be late
and drip.

It forwards bytes. What is in a request is looked at only to find the scripts whose answers shall be lost: the request
was carried out then, and its answer is gone with the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 18
DROPS = 64
DROP_SECONDS = 0.001


class Network:
    """Set what shall fail; `port` is where it listens."""

    def __init__(self, socket_path: Path) -> None:
        self.port = 0
        self.lost = 0  # answers, so far
        self.up = asyncio.Event()  # requests pass while it is set
        self.down = asyncio.Event()  # answers pass while it is set
        self.late = (0.0, 0.0)  # seconds, from and to, that each chunk takes
        self.drips = False  # some bytes of each chunk come one at a time
        self.up.set()
        self.down.set()
        self._socket_path = socket_path
        self._doomed: Counter[bytes] = Counter()  # requests with this text until the one whose answer is lost
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def lose_answer(self, text: bytes, number: int) -> None:
        """Lose the answer to the n-th request from now that holds this text."""
        self._doomed[text] = number

    def lose_no_more(self) -> None:
        """Lose no further answers."""
        self._doomed.clear()

    def reset(self) -> None:
        """Break every connection; what is held back is gone."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._open.add(answers)
        try:
            server, requests = await asyncio.open_unix_connection(self._socket_path, limit=CHUNK)
        except OSError:
            answers.transport.abort()
            self._open.discard(answers)
            return
        self._open.add(requests)
        loses = asyncio.Event()
        back = asyncio.create_task(self._pass(server, answers, self.down, loses))
        try:
            await self._pass_requests(client, requests, loses)
        finally:
            for writer in (answers, requests):
                writer.transport.abort()
            self._open -= {answers, requests}
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)

    async def _pass_requests(
        self, client: asyncio.StreamReader, requests: asyncio.StreamWriter, loses: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while request := await client.read(CHUNK):
                if self._doomed and self._is_doomed(request):
                    loses.set()
                if not self.up.is_set():
                    await self.up.wait()
                await self._carry(request, requests)

    def _is_doomed(self, request: bytes) -> bool:
        for text in self._doomed:
            if text in request:
                self._doomed[text] -= 1
                if self._doomed[text] <= 0:
                    del self._doomed[text]
                    return True
        return False

    async def _pass(
        self, server: asyncio.StreamReader, answers: asyncio.StreamWriter, open_: asyncio.Event, loses: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while answer := await server.read(CHUNK):
                if loses.is_set():
                    self.lost += 1
                    break
                if not open_.is_set():
                    await open_.wait()
                await self._carry(answer, answers)
        answers.transport.abort()

    async def _carry(self, chunk: bytes, to: asyncio.StreamWriter) -> None:
        if self.late[1]:
            await asyncio.sleep(random.uniform(*self.late))
        if self.drips:
            start = random.randrange(max(1, len(chunk) - DROPS))
            to.write(chunk[:start])
            for at in range(start, min(len(chunk), start + DROPS)):
                to.write(chunk[at : at + 1])
                await asyncio.sleep(DROP_SECONDS)
            chunk = chunk[start + DROPS :]
        to.write(chunk)

    async def close(self) -> None:
        """Break everything and wait for the ends."""
        self.up.set()
        self.down.set()
        self.late, self.drips = (0.0, 0.0), False
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def open_network(socket_path: Path) -> AsyncIterator[Network]:
    """A network in front of the server at this socket."""
    network = Network(socket_path)
    server = await asyncio.start_server(network._serve, "127.0.0.1", 0, limit=CHUNK)
    network.port = server.sockets[0].getsockname()[1]
    try:
        yield network
    finally:
        server.close()
        await network.close()
