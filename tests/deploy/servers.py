"""Redis servers for a test alone, with options of its own: every redis-server that this machine has."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import free_port

START_SECONDS = 10.0


@contextmanager
def running(binary: Path, home: Path, *options: str, tls: bool = False) -> Iterator[int]:
    """A server in `home`, on a loopback port; without persistence unless the options say so. Yields the port.

    What is set twice holds as it is set last, so an `--include` is the first option. With `tls` it has to close the
    plain port.
    """
    port = free_port()
    given = ["--save", "", *options, "--tls-port" if tls else "--port", str(port), "--bind", "127.0.0.1"]
    with (home / "redis.log").open("wb") as log:
        process = subprocess.Popen([binary, *given, "--dir", str(home)], stdout=log, stderr=log)
    try:
        _wait(process, port, home / "redis.log")
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
