"""A program of ours as a child process whose JSON log lines are read: for the demo and the end-to-end tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

STOP_SECONDS = 15.0

Heard = Callable[[dict[str, Any]], None]


class Child:
    """One program. It can be started again after it ended; its log lines go to `<folder>/<name>.log` as well."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.environment = dict(environment)
        self.lines: list[dict[str, Any]] = []
        self._command = list(command)
        self._log = folder / f"{name}.log"
        self._hear: list[Heard] = []
        self._news = asyncio.Condition()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Its process id. RuntimeError before the first start."""
        return self._running().pid

    def on_line(self, heard: Heard) -> None:
        """Call this with every log line from now on."""
        self._hear.append(heard)

    async def start(self) -> None:
        """Start it."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
        )
        self._reading = asyncio.create_task(self._read(self._process), name=f"{self.name} log")

    async def wait_for(self, event: str, seconds: float) -> dict[str, Any]:
        """The first log line with this event; RuntimeError with the end of its log when it ends first."""
        async with asyncio.timeout(seconds), self._news:
            while True:
                found = next((line for line in self.lines if line.get("event") == event), None)
                if found is not None:
                    return found
                if self._running().returncode is not None and self._reading is not None and self._reading.done():
                    end = "\n".join(self._log.read_text().splitlines()[-5:])
                    raise RuntimeError(f"the {self.name} ended with {self._running().returncode}:\n{end}")
                await self._news.wait()

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            self._running().send_signal(number)

    async def wait(self) -> int:
        """Its exit code, once it ended and its log is read."""
        code = await self._running().wait()
        if self._reading is not None:
            await self._reading
        return code

    async def stop(self) -> None:
        """SIGTERM; SIGKILL when that does not help."""
        if self._process is None or self._process.returncode is not None:
            return
        self.kill(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.wait()
        except TimeoutError:
            self.kill(signal.SIGKILL)
            await self.wait()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"the {self.name} was not started")
        return self._process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is None:
            raise RuntimeError("its log is not piped")
        with self._log.open("ab") as log:
            async for raw in process.stderr:
                log.write(raw)
                log.flush()
                with contextlib.suppress(ValueError):
                    await self._tell(json.loads(raw))
        async with self._news:
            self._news.notify_all()

    async def _tell(self, line: Any) -> None:
        if not isinstance(line, dict):
            return
        self.lines.append(line)
        for heard in self._hear:
            heard(line)
        async with self._news:
            self._news.notify_all()
