"""The process that keeps the redis-server of an `embedded://DIR`, and ends it when nobody uses DIR any more.

`embedded` starts this file by its path: it loads the standard library only, to be up in some 50 ms. Three files in DIR
carry the protocol. Each is locked with flock(2), and the kernel drops a lock when its last owner dies, however it dies.

    holders.lock    shared, by every process that has DIR open; exclusive, by the guardian, once there is none
    guardian.lock   by the guardian from before its first instruction: its starter locks the file and hands it over
    server.lock     by the redis-server, which inherits it

An opener takes holders.lock first and only then looks for a guardian. So either the guardian sees the holder and
stays, or it already has holders.lock to itself; then the opener waits until the server has ended and starts a new one.

    the last holder dies or closes   the guardian takes holders.lock, ends the server, and only then lets go of the lock
    several open at once             one gets guardian.lock and starts the guardian; the others wait for an answer
    the opener dies while starting   the guardian takes holders.lock at its first look, and ends
    the server dies                  the guardian starts it again; holders reconnect
    the guardian is killed           Linux sends the server SIGTERM. The next opener, or a holder's `ensure`, gets
                                     guardian.lock. The new guardian waits for server.lock and asks the old server
                                     over its socket to shut down, so two servers never share the files. It signals
                                     only its own child: a pid noted by another may by now be somebody else's.
    it is killed while it ends       the same
    no server can be started         the guardian gives up; its starter finds guardian.lock free and shows the log
    the server did not end in order  its next start has the append-only file written anew (BGREWRITEAOF): a file that
                                     ends in the middle of a script is cut there, and Redis 7.0.15 and 8.2.3 would apply
                                     the first half of that script at the start after next
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO

HOLDERS_LOCK = "holders.lock"
GUARDIAN_LOCK = "guardian.lock"
SERVER_LOCK = "server.lock"
SOCKET = "redis.sock"
OLD_SOCKET = "redis.old"
"""What a starter renames the socket of a server without guardian to, so that no opener takes it for the new one."""
SOCKET_ELSEWHERE = "socket"
"""Holds the path of the socket where DIR's own name is too long for one."""
UNENDED = "server.unended"
"""Is there while a server runs, and after one that did not end in order."""

LOOK_SECONDS = 0.2
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
PROOF_SECONDS = 1.0
"""A server that lived this long could be started; one that ended sooner, by itself, may never be."""
END_SECONDS = 10.0
"""How long a server may take to write its file and end before it is killed."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def try_lock(file: IO[bytes], how: int) -> bool:
    """Take a flock unless another has it. The file keeps it until it is closed in every process that inherited it."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def ask(path: Path, command: bytes) -> bytes:
    """Send one inline command to the server at a socket. No answer, or no server, is b""."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
            client.sendall(command + b"\r\n")
            return client.recv(256)
        except OSError:
            return b""


class Guardian:
    """Keeps one server up for as long as somebody holds the directory."""

    def __init__(self, home: Path, socket_path: Path, binary: Path) -> None:
        self._home = home
        self._socket = socket_path
        self._old_socket = socket_path.with_name(OLD_SOCKET)
        self._command = [
            str(binary),
            *("--port", "0", "--unixsocket", str(socket_path), "--unixsocketperm", "700"),
            *("--dir", str(home), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--loglevel", "warning"),
        ]
        self._holders = _open(home / HOLDERS_LOCK)
        self._unended = home / UNENDED
        self._to_rewrite = False
        self._told_to_end = False
        self._unheld = False

    def tell_to_end(self, _signal: int, _frame: FrameType | None) -> None:
        """A signal handler: end at the next look, held or not."""
        self._told_to_end = True

    def guard(self) -> bool:
        """Run until nobody holds the directory or a signal says to end; False where no server can be started."""
        pause = FIRST_PAUSE_SECONDS
        proven = False
        chances = 2 if self._unended.exists() else 1  # a cut file may be refused once, and is repaired by that
        while (child := self._start()) is not None:
            began = time.monotonic()
            while (ended := _how_it_ended(child)) is None:
                if self._is_done():
                    self._note_end(_end(child))
                    self._clear_away()
                    return True
                self._rewrite()
                time.sleep(LOOK_SECONDS)
            self._note_end(ended)
            lived = time.monotonic() - began >= PROOF_SECONDS
            proven = proven or lived
            chances -= 1
            if ended > 0 and not proven and chances <= 0:
                log(f"redis-server {child} ended at once with exit status {ended}; it is not started again")
                return False
            pause = FIRST_PAUSE_SECONDS if lived else min(2 * pause, LONGEST_PAUSE_SECONDS)
            how = f"exit status {ended}" if ended >= 0 else f"signal {-ended}"
            log(f"redis-server {child} ended with {how}; starting it again in {pause} s")
            time.sleep(pause)
        return True

    def _is_done(self) -> bool:
        """True once told to end, or once nobody holds the directory; then nobody can until this process is gone."""
        self._unheld = self._unheld or try_lock(self._holders, fcntl.LOCK_EX)
        return self._told_to_end or self._unheld

    def _start(self) -> int | None:
        """Start a server when no older one lives; its process id, or None where this guardian is done before that."""
        with _open(self._home / SERVER_LOCK) as lock:
            while not try_lock(lock, fcntl.LOCK_EX):
                if self._is_done():
                    return None
                ask(self._old_socket, b"SHUTDOWN")
                time.sleep(0.01)
            self._old_socket.unlink(missing_ok=True)
            self._to_rewrite = self._unended.exists()
            self._unended.touch()
            return _spawn(self._command, lock)

    def _rewrite(self) -> None:
        """Have the append-only file written anew after an end without order, as soon as the server has loaded it."""
        if self._to_rewrite and ask(self._socket, b"BGREWRITEAOF").startswith((b"+", b"-ERR")):
            self._to_rewrite = False

    def _note_end(self, how: int) -> None:
        if how == 0:
            self._unended.unlink(missing_ok=True)

    def _clear_away(self) -> None:
        """Take a socket that lies elsewhere away with its directory. Holders still know the path: then it stays."""
        if not self._unheld:
            return
        self._socket.unlink(missing_ok=True)
        if self._socket.parent != self._home:
            self._socket.parent.rmdir()
            (self._home / SOCKET_ELSEWHERE).unlink(missing_ok=True)


def _open(path: Path) -> IO[bytes]:
    return path.open("ab")


def _spawn(command: list[str], lock: IO[bytes]) -> int:
    """Fork and become the server. This process has one thread, so code may run between the two."""
    guardian = os.getpid()
    child = os.fork()
    if child:
        log(f"redis-server {child} started")
        return child
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # before the next line, or the signal it asks for could be lost
        _end_with(guardian)
        os.set_inheritable(lock.fileno(), True)
        os.execv(command[0], command)  # noqa: S606 - the binary `embedded` found, an argument list, no shell
    except OSError as error:
        log(f"{command[0]}: {error.strerror}")
    finally:
        os._exit(127)


def _end_with(guardian: int) -> None:
    """Have Linux send this process SIGTERM when the guardian dies.

    The kernel means the thread that forked, not its process (prctl(2), PR_SET_PDEATHSIG). A server forked by a thread
    of a holder would end with that thread: one more reason for a guardian, which forks from its only thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != guardian:  # it died before we asked
        os._exit(0)


def _how_it_ended(child: int) -> int | None:
    """The exit status, or the signal as a negative number; None while it runs."""
    pid, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def _end(child: int) -> int:
    """SIGTERM, which makes Redis write and sync its file; SIGKILL if that takes too long. How it ended."""
    os.kill(child, signal.SIGTERM)
    patience = time.monotonic() + END_SECONDS
    while (ended := _how_it_ended(child)) is None:
        if time.monotonic() > patience:
            log(f"redis-server {child} did not end within {END_SECONDS:.0f} s of SIGTERM; killing it")
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGKILL
        time.sleep(0.01)
    return ended


def log(line: str) -> None:
    """One line to standard error, which is DIR/guardian.log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} guardian {os.getpid()}: {line}\n")
    sys.stderr.flush()


def main(home: str, socket_path: str, binary: str, lock: str) -> int:
    """Leave the starter's family, so that it has no child to wait for, then guard."""
    os.set_inheritable(int(lock), False)  # the server must not keep guardian.lock
    if os.fork():
        return 0
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a starter's mask and dispositions are inherited
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    guardian = Guardian(Path(home), Path(socket_path), Path(binary))
    signal.signal(signal.SIGTERM, guardian.tell_to_end)
    signal.signal(signal.SIGINT, guardian.tell_to_end)
    return 0 if guardian.guard() else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
