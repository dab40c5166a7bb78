"""What the programs of a fault run write down, one JSON line for each step, and how it is read again.

A line is appended with one write before (`invoke`, `begin`) or after (`ok`, `fail`, `info`) the step it tells of, so a
program that is killed leaves a true history. Times are CLOCK_MONOTONIC, which all processes of a machine share.

    publish  invoke | ok | fail | info   a batch; fail: surely not stored, info: nobody knows
    begin                                a handler was called
    later                                it asked for another attempt, not before `after` seconds
    may                                  the ledger gave its permission to act
    known                                the receiver knew the effect by its key
    fenced                               the bus refused to finish what was no longer this worker's
    gap                                  the bus says that its books do not add up
    boot                                 a program is up
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class History:
    """The lines of one program."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.pid = os.getpid()

    def up(self) -> None:
        """Note that this program is up, for whoever waits for it too (see `is_up`)."""
        self.note("boot")
        _pid_file(self._path).write_text(str(self.pid))

    def note(self, op: str, **fields: Any) -> float:
        """Append one line; returns its time."""
        now = time.monotonic()
        line = {"op": op, "t": round(now, 6), "pid": self.pid, **fields}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        return now


def _pid_file(path: Path) -> Path:
    return path.with_suffix(".pid")


def is_up(path: Path, pid: int) -> bool:
    """Whether the program with this history and process id got as far as `up`."""
    file = _pid_file(path)
    return file.exists() and file.read_text() == str(pid)


def rows(path: Path) -> Iterator[Any]:
    """The JSON lines of a file in their order; one that was cut by a kill is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield json.loads(line)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The history in a file."""
    yield from rows(path)
