"""The redis-server of a fault run: a process that can be killed, stopped and started again on its own files.

Its directory is a tmpfs of its own where we may mount one. With `appendfsync always` a command is in the append-only
file before it is answered, so a killed server loses nothing, and on a tmpfs the fsync costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from eventbus.redis.embedded import find_server

START_SECONDS = 30.0


class Server:
    """Start it, then do to it what a fault does."""

    def __init__(self, home: Path, binary: Path | None = None) -> None:
        self.home = home
        self.socket_path = home / "redis.sock"
        self.is_mounted = False
        self._binary = binary or find_server()
        self._process: asyncio.subprocess.Process | None = None
        self.admin = redis.asyncio.Redis(unix_socket_path=str(self.socket_path), socket_timeout=10, protocol=2)

    def mount(self) -> None:
        """Give it a file system of its own, where this process may."""
        self.home.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            command = ["mount", "-t", "tmpfs", "-o", "size=8g", "faults", str(self.home)]
            self.is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0

    def resize(self, size: int) -> None:
        """Let its file system hold this many bytes."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.home)], check=True)

    def used(self) -> int:
        """Bytes in use on its file system."""
        found = os.statvfs(self.home)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    async def start(self) -> None:
        """Start it and wait until it answers."""
        options = (
            f"--port 0 --unixsocket {self.socket_path} --dir {self.home} --appendonly yes --appendfsync always "
            "--save --loglevel warning --logfile redis.log --maxmemory-policy noeviction"
        )
        self._process = await asyncio.create_subprocess_exec(self._binary, *options.split(), stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not await self.answers():
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not start: {(self.home / 'redis.log').read_text()[-500:]}")
            await asyncio.sleep(0.02)

    async def answers(self) -> bool:
        """True when it is ready."""
        with contextlib.suppress(RedisError, OSError):
            return bool(await self.admin.ping())
        return False

    async def stop_rewriting(self) -> None:
        """Begin no rewrite of the append-only file, and wait for one under way."""
        await self.admin.config_set("auto-aof-rewrite-percentage", 0)
        await self._rewritten()

    async def rewrite(self) -> None:
        """Write a new append-only file from memory, and wait for it.

        Redis 7.0.15 and 8.2.3 leave the first part of a transaction that was cut in two (a script's writes are one) in
        the file: it is not carried out at this start, but at the next, together with the transaction appended behind
        it. That breaks what no client can mend; so nothing is appended to a file that was cut.
        """
        await self.admin.bgrewriteaof()
        await self._rewritten()

    async def _rewritten(self) -> None:
        while True:
            found = await self.admin.info("persistence")
            if not (found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"]):
                return
            await asyncio.sleep(0.02)

    async def until_it_writes(self) -> None:
        """Wait until its append-only file takes what it was too full for."""
        while True:
            if (await self.admin.info("persistence"))["aof_last_write_status"] == "ok":
                return
            await asyncio.sleep(0.05)

    def cut(self, size: int) -> None:
        """Take so many bytes off the end of its append-only file, as a power cut does to what was not on the disk."""
        last = max((self.home / "appendonlydir").glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[2]))
        os.truncate(last, max(0, last.stat().st_size - size))

    async def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()
        await self.admin.connection_pool.disconnect()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def close(self) -> None:
        """End it and give its file system back."""
        await self.kill()
        await self.admin.aclose()
        if self.is_mounted:
            await asyncio.to_thread(subprocess.run, ["umount", str(self.home)], check=False)
