"""The commands as people meet them: in this process through click's runner, or as a process on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress

from click.testing import CliRunner, Result

from service.cli import main

NOBODY_LISTENS = "redis://127.0.0.1:1/0"
SECONDS = 60.0


def eventbus(*arguments: str, stdin: str = "") -> Result:
    """The command, where standard input and output are no terminal."""
    return CliRunner().invoke(main, arguments, input=stdin)


class Terminal:
    """The command on a terminal of so many columns, in the environment of this process."""

    def __init__(self, columns: int, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        command = [sys.executable, "-m", "service", *arguments]
        environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm-256color"}
        self._child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        self.shown = ""

    def until(self, text: str) -> None:
        """Return when this is shown."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            assert select.select([self._ours], [], [], deadline - time.monotonic())[0], self.shown
            self.shown += os.read(self._ours, 65_536).decode()

    def type(self, text: str) -> None:
        """What a person types."""
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Read to the end; the exit code. What is shown has no colours and carriage returns any more."""
        with suppress(OSError):  # the terminal's word for "its last user is gone"
            while part := os.read(self._ours, 65_536):
                self.shown += part.decode()
        os.close(self._ours)
        code = self._child.wait(timeout=SECONDS)
        self.shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.shown)
        return code


def on_a_terminal(columns: int, *arguments: str) -> str:
    """All that the command shows."""
    terminal = Terminal(columns, *arguments)
    terminal.end()
    return terminal.shown
