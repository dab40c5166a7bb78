"""The third party of a fault run: it writes every effect down before it confirms it, and is never killed.

    python -m tests.faults.receiver SOCKET FILE

A line in, a JSON list, is a line in FILE with the time behind its last value, in the order of arrival over all
connections; then one byte goes back for each. The list in FILE is the truth about effects. A line `!KEY<tab>...` is
remembered under its key as well, and `?KEY` asks for it: the byte is then 1 or 0. A line `=KEY<tab>...` is one effect
however often it comes: a repeat changes nothing, and its byte is 1. Times are CLOCK_MONOTONIC. It prints `ready` once
it listens and ends with its standard input.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from typing import cast

CHUNK = 1 << 16
DONE, YES, NO = b".", b"1", b"0"


def serve(address: str, path: str) -> None:
    """Serve until standard input is closed."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    rest: dict[socket.socket, bytes] = {}
    known: set[bytes] = set()
    with selectors.DefaultSelector() as ready:
        ready.register(listening, selectors.EVENT_READ)
        ready.register(sys.stdin, selectors.EVENT_READ)
        print("ready", flush=True)  # noqa: T201  whoever started it waits for this
        while True:
            for key, _ in ready.select():
                if key.fileobj is sys.stdin:
                    return
                if key.fileobj is listening:
                    caller, _ = listening.accept()
                    rest[caller] = b""
                    ready.register(caller, selectors.EVENT_READ)
                    continue
                caller = cast("socket.socket", key.fileobj)
                try:
                    chunk = caller.recv(CHUNK)
                    lines, _, rest[caller] = (rest[caller] + chunk).rpartition(b"\n")
                    if lines:
                        effects, answer = take(lines.split(b"\n"), known)
                        os.write(file, effects)
                        caller.sendall(answer)
                except OSError:  # killed meanwhile: what it sent is done all the same
                    chunk = b""
                if not chunk:
                    ready.unregister(caller)
                    caller.close()
                    del rest[caller]


def take(lines: list[bytes], known: set[bytes]) -> tuple[bytes, bytes]:
    """What these lines put into the file, and the answer to them."""
    effects, answer = [], []
    behind = f",{time.monotonic():.6f}]\n".encode()
    for line in lines:
        mark, rest = line[:1], line[1:]
        if mark == b"?":
            answer.append(YES if rest in known else NO)
            continue
        if mark in (b"!", b"="):
            key, _, line = rest.partition(b"\t")
            if mark == b"=" and key in known:
                answer.append(YES)
                continue
            known.add(key)
        effects.append(line[:-1] + behind)
        answer.append(DONE)
    return b"".join(effects), b"".join(answer)


if __name__ == "__main__":
    serve(*sys.argv[1:])
