"""Installs the peers and runs their programs beside a redis-server somebody else holds: `collect`.

A peer has a virtual environment of its own, from `requirements/NAME.txt`: arq wants a redis-py older than 6 and
taskiq-redis one from 8, so no single environment can hold them all. A program runs in a process of its own, and knows
nothing of ours but the path of the socket. `celery` is installed the same way for whoever compares more than speed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

PEERS = ("faststream", "taskiq", "streaq", "arq", "dramatiq")
HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".venv-peers"
INSTALLED = "installed.txt"
LONGEST = 660.0
"""Seconds until a program is killed: more than it gives itself (`work.LONGEST`)."""

DOES_NOT = {
    "faststream": "dedupe; fence; order per key; retry (nack and reject only return); reclaim, unless asked for",
    "taskiq": "dedupe; fence; order per key; retry, unless asked for; reclaim before 10 min and a later event",
    "streaq": "fence the acknowledgement; order per key; retry, unless the handler asks; groups for fan-out",
    "arq": "fence; order per key; retry, unless the handler asks; reclaim before 310 s; groups for fan-out",
    "dramatiq": "dedupe; fence; order per key; reclaim before 60 s, then by chance; groups for fan-out",
}
"""What the bus does in the same measurement and they do not, at the pinned versions, read in their source.

faststream redis/message.py; taskiq_redis/redis_broker.py (idle_timeout, listen) and taskiq/receiver/receiver.py; streaq
worker.py (finish_task) and lua/streaq.lua; arq worker.py (in_progress_timeout_s, run_job) and connections.py
(enqueue_job); dramatiq brokers/redis.py (maintenance_chance, heartbeat_timeout).
"""

Figures = dict[str, dict[str, list[float]]]


class PeerFailed(Exception):
    """A peer could not be installed or did not do its work; the text says why."""


def collect(
    socket_path: Path,
    events: int,
    rounds: int,
    progress: Progress,
    *,
    names: Sequence[str] = PEERS,
    environments: Path = ENVIRONMENTS,
) -> Figures:
    """Peer to work to one value a round: events per second, for latency milliseconds.

    Peers take turns within a round. One that fails is left out of the result, and its reason is printed above the
    progress bar. Empties database 1 of that server; blocks, so give it a thread where an event loop has other work.
    """
    found: Figures = {name: {} for name in names}
    task = progress.add_task("peers", total=rounds * len(names))
    for number in range(rounds):
        for name in tuple(found):
            try:
                progress.update(task, description=f"installing {name}")
                python = install(name, environments)
                progress.update(task, description=f"round {number + 1}: {name}")
                figures = run(name, python, socket_path, events)
            except PeerFailed as error:
                progress.console.print(f"{name} failed: {error}", style="red", markup=False, highlight=False)
                del found[name]
                progress.advance(task, rounds - number)
                continue
            for work, value in figures.items():
                found[name].setdefault(work, []).append(value)
            progress.advance(task)
    progress.remove_task(task)
    return found


def install(name: str, environments: Path = ENVIRONMENTS) -> Path:
    """The interpreter of a peer's environment, made anew when its requirements or our Python have changed."""
    requirements = HERE / "requirements" / f"{name}.txt"
    home = environments / name
    python = home / "bin" / "python"
    wanted = f"{sys.version}\n{requirements.read_text()}"
    marker = home / INSTALLED
    if marker.exists() and marker.read_text() == wanted:
        return python
    _call([sys.executable, "-m", "venv", "--clear", str(home)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([*pip, "--require-hashes", "-r", str(requirements)])
    marker.write_text(wanted)
    return python


def run(name: str, python: Path, socket_path: Path, events: int) -> dict[str, float]:
    """One round of one peer."""
    program = [str(python), "-m", f"benchmarks.peers.{name}", "--redis", str(socket_path), "--events", str(events)]
    line = _call(program, timeout=LONGEST)
    try:
        figures: dict[str, float] = json.loads(line)
    except ValueError as error:
        raise PeerFailed(f"its program printed {line[:200]!r} instead of one JSON object") from error
    return figures


def _call(command: Sequence[str], timeout: float | None = None) -> str:
    """What a command prints. Raises PeerFailed with the end of what it complained of."""
    environment = {**os.environ, "PYTHONPATH": ""}
    root = HERE.parent.parent
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerFailed(str(error)) from error
    if done.returncode:
        complaint = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])[-300:]
        raise PeerFailed(f"{' '.join(command[1:5])} exited with {done.returncode}: {complaint}")
    return done.stdout
