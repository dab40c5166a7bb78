"""Workers that are going to die, forked from a process that has everything imported, so that a start takes no second.

    python -m tests.e2e.victims

reads lines of JSON, each a list of victims as (settings file, EVENTBUS_FAILPOINTS, log file). It lets them work side by
side and answers with a line when all have ended: the list of their exit codes; below 0: the signal.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from eventbus import failpoint
from registry.discovery import discover
from service import logs
from service.wiring import read_settings
from service.worker import run_worker

PATIENCE_SECONDS = 60
"""A victim that has not come by its failpoint by then is ended by SIGALRM."""

Victim = tuple[str, str, str]


class Victims:
    """The process that forks them: `with Victims() as victims`."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.e2e.victims"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    async def die(self, victims: Sequence[Victim]) -> list[int]:
        """Let them work until each has died; their exit codes."""
        return await asyncio.to_thread(self._die, victims)

    def _die(self, victims: Sequence[Victim]) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(victims) + "\n")
        self._process.stdin.flush()
        codes: list[int] = json.loads(self._process.stdout.readline())
        return codes


def _work(config: str, failpoints: str, log: str) -> None:
    signal.alarm(PATIENCE_SECONDS)
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ["EVENTBUS_FAILPOINTS"] = failpoints
    importlib.reload(failpoint)  # they are read when a process starts
    settings = read_settings(Path(config))
    logs.configure(settings.log.level, "json")
    asyncio.run(run_worker(settings))


def _ended(pids: Sequence[int]) -> list[int]:
    codes = dict.fromkeys(pids, 0)
    for _ in pids:
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
    return [codes[pid] for pid in pids]


def main() -> None:
    """Until the input ends."""
    discover()  # imports the adapters
    for line in sys.stdin:
        pids = []
        for victim in json.loads(line):
            pid = os.fork()
            if pid == 0:
                _work(*victim)
                os._exit(0)
            pids.append(pid)
        sys.stdout.write(json.dumps(_ended(pids)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
