"""`python -m tests.faults.mutants`: seeded bugs, each of which a named check must catch.

Each bug is one exact snippet of the source and what stands in its place, applied to a copy of the tree. A snippet that
is not there exactly once is stale and fails the run, as does a check that fails without its bug: a green run of a blind
checker is worth nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.checker import VIOLATIONS

ROOT = Path(__file__).parents[2]
COPIED = ("eventbus", "integrations", "registry", "service", "tests", "pyproject.toml")
SECONDS = 300.0
STOP_SECONDS = 20.0
HARD = "kill worker,terminate worker,kill publisher,kill redis,lose answer of publish,lose answer of take"
RUN = ("-m", "tests.faults", "--seed", "11", "--events", "5000", "--rate", "400", "--faults", HARD)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: in `file` the text `old` becomes `new`. `check` is what has to fail: arguments for Python."""

    name: str
    file: str
    old: str
    new: str
    check: tuple[str, ...] = RUN

    @property
    def check_name(self) -> str:
        """As it is shown."""
        return "fault run" if self.check == RUN else self.check[-1].rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant."""

    name: str
    check: str
    caught: bool
    seconds: float
    why: str


def test(node: str) -> tuple[str, ...]:
    """A pytest node as a check."""
    return ("-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/{node}")


MUTANTS = (
    Mutant(
        "acknowledged before it is handled",
        "eventbus/consumer.py",
        "            await self._call(decode(taken.topic, taken.wire), taken)\n",
        "            self._done.append(taken)\n"
        "            self._dirty.set()\n"
        "            await self._call(decode(taken.topic, taken.wire), taken)\n",
    ),
    Mutant(
        "acknowledged in `finally`",
        "eventbus/consumer.py",
        "            outcome = await self._failed_attempt(taken, error)\n        else:\n",
        "            self._done.append(taken)\n"
        "            self._dirty.set()\n"
        "            outcome = str(error)\n        else:\n",
        test("eventbus/test_consumer.py::test_what_is_not_done_is_tried_again"),
    ),
    Mutant(
        "settled without a fence",
        "eventbus/redis/lua/settle.lua",
        "  if mine[id] == tonumber(ARGV[a+1]) then\n",
        "  if true then\n",
        test("contracts/test_deliveries.py::test_whoever_does_not_own_a_delivery_changes_nothing"),
    ),
    Mutant(
        "the log is capped by XADD MAXLEN",
        "eventbus/redis/lua/publish.lua",
        "redis.call('XADD', LOG, '*', 't', ARGV[a+1]",
        "redis.call('XADD', LOG, 'MAXLEN', 50, '*', 't', ARGV[a+1]",
    ),
    Mutant(
        "a new group starts at $",
        "eventbus/redis/lua/declare.lua",
        "local start = known == 1 and '0' or ARGV[4]",
        "local start = '$'",
        test("fundamentals/test_02_subscribe.py"),
    ),
    Mutant(
        "redis-py repeats commands by itself",
        "eventbus/redis/clients.py",
        "    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)\n",
        "    retry = redis.asyncio.retry.Retry(NoBackoff(), 3)\n",
        test("faults/test_promises.py"),
    ),
    Mutant(
        "the ledger forgets after 10 seconds",
        "eventbus/ledger.py",
        "KEEP = timedelta(days=30)",
        "KEEP = timedelta(seconds=10)",
        test("faults/test_promises.py"),
    ),
    Mutant(
        "a consumer is deleted with what it owns",
        "eventbus/redis/lua/sweep.lua",
        "    if #held == 0 then\n",
        "    if true then\n",
        test("contracts/test_crashes.py::test_a_consumer_is_forgotten_only_when_it_owns_nothing"),
    ),
    Mutant(
        "a retry is an acknowledgement and a new event",
        "eventbus/consumer.py",
        "        await self._retry([taken], again, decided.pause)\n",
        "        await self._shard.settle(self._group, self.name, [(taken.entry_id, taken.fence, taken.key)])\n"
        "        from eventbus.redis.shard import Letter\n"
        "        copy = f'{taken.entry_id} {taken.fence}'\n"
        "        letter = Letter(taken.topic, taken.key, copy, copy, '', 60_000, taken.wire)\n"
        "        self._release([taken], [bool(await self._shard.publish([letter]))])\n",
    ),
    Mutant(
        "a failed look-up counts as absent",
        "registry/dispatch.py",
        "            wait = error.retry_after\n            raise OutcomeUnknown(",
        "            return None\n            raise OutcomeUnknown(",
        test("registry/test_dispatch.py::test_a_failed_look_up_is_not_absent"),
    ),
    Mutant(
        "the spool does not sync",
        "eventbus/spool.py",
        "at + written\n        os.fsync(file)\n",
        "at + written\n",
        test("eventbus/test_spool.py::test_append_returns_when_the_file_and_its_name_are_synced"),
    ),
    Mutant(
        "2xx before it is accepted",
        "service/gateway/webhooks.py",
        "return (await bus.publish_many([*reply.events, notice], remember=keep, first_wins=reply.first_wins))[:-1]",
        "return asyncio.ensure_future(bus.publish_many([*reply.events, notice])) and []",
        test("service/gateway/test_webhooks.py::test_no_2xx_before_redis_has_it_and_503_when_it_does_not_answer"),
    ),
    Mutant(
        "scheduled events by the clock of a worker that is ahead",
        "eventbus/redis/lua/promote.lua",
        "redis.call('ZRANGEBYSCORE', LATER, '-inf', now, ",
        "redis.call('ZRANGEBYSCORE', LATER, '-inf', now + 1000, ",
    ),
    Mutant(
        "retries by the clock of a worker that is ahead",
        "eventbus/redis/lua/take.lua",
        "redis.call('ZRANGEBYSCORE', DUE, '-inf', time, ",
        "redis.call('ZRANGEBYSCORE', DUE, '-inf', time + 250, ",
    ),
    Mutant(
        "dead letters are dropped over a quota",
        "eventbus/redis/lua/common.lua",
        "redis.call('XADD', DEAD, '*',",
        "redis.call('XADD', DEAD, 'MAXLEN', 5, '*',",
    ),
    Mutant(
        "a cancellation is swallowed",
        "eventbus/ending.py",
        "            raise asyncio.CancelledError\n",
        "            pass\n",
        test("eventbus/test_ending.py"),
    ),
    Mutant(
        "a key's events do not wait for each other",
        "eventbus/redis/lua/take.lua",
        "      elseif not (ordered and line_up(id, f[4])) then hand(out, id, 1, 1, 0, f) end\n",
        "      else hand(out, id, 1, 1, 0, f) end\n",
    ),
    Mutant(
        "a repeat is stored again",
        "eventbus/redis/lua/publish.lua",
        "redis.call('SET', once, here[once], 'PX', window)",
        "redis.call('SET', once, here[once], 'PX', 1)",
    ),
    Mutant(
        "trimmed before every group has finished",
        "eventbus/redis/lua/trim.lua",
        "low and before(low, id) and low or id",
        "id",
        test("contracts/test_history.py::test_trim_keeps_whatever_is_unfinished"),
    ),
    Mutant(
        "no look-up after an unknown end",
        "registry/dispatch.py",
        "if entry.permission is Permission.UNKNOWN:\n            if act.adapter.manifest.effects ==",
        "if entry.permission is Permission.BUSY:\n            if act.adapter.manifest.effects ==",
        test("registry/test_dispatch.py::test_an_effect_whose_answer_was_lost_is_found_and_not_made_again"),
    ),
)


def play(mutants: Sequence[Mutant], console: Console) -> list[Outcome]:
    """Every mutant's outcome, and before them the checks without a bug."""
    outcomes = [_clean(check) for check in dict.fromkeys(mutant.check for mutant in mutants)]
    for outcome in outcomes:
        console.print(f"without a bug   {outcome.check}: {outcome.why} ({outcome.seconds:.0f} s)")
    for mutant in mutants:
        outcome = _try(mutant)
        outcomes.append(outcome)
        colour = "green" if outcome.caught else "red"
        console.print(f"[{colour}]{'caught' if outcome.caught else 'MISSED'}[/]   {mutant.name}: {outcome.why}")
    return outcomes


def _clean(check: tuple[str, ...]) -> Outcome:
    name = Mutant("", "", "", "", check).check_name
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        code, seconds, said = _run(_copy(Path(folder)), check)
    void = check == RUN and code == 2  # a short run need not reach everything
    return Outcome("no bug", name, code == 0 or void, seconds, "passes" if code == 0 or void else f"fails: {said}")


def _try(mutant: Mutant) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = _copy(Path(folder))
        source = (tree / mutant.file).read_text()
        if source.count(mutant.old) != 1:
            return Outcome(mutant.name, mutant.check_name, caught=False, seconds=0, why="stale: its snippet is gone")
        (tree / mutant.file).write_text(source.replace(mutant.old, mutant.new))
        code, seconds, said = _run(tree, mutant.check)
    return Outcome(mutant.name, mutant.check_name, code in (1, None), seconds, said)


def _copy(folder: Path) -> Path:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def _run(tree: Path, check: Sequence[str]) -> tuple[int | None, float, str]:
    """Exit code (1: the check failed; None: it found no end), seconds, and the line that says why."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *check],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        out = "no end"
        process.send_signal(signal.SIGINT)  # a fault run takes its file system down itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    code = None if out == "no end" else process.wait()
    return code, time.monotonic() - started, _reason(out)


def _reason(out: str) -> str:
    """The first line that names a violation, else the last line."""
    lines = [line.strip() for line in out.splitlines() if line.strip()]
    marks = (*(f"{kind}:" for kind in VIOLATIONS), "FAILED", "E  ")
    return next((line for line in lines if line.startswith(marks)), lines[-1] if lines else "")[:150]


def table(outcomes: Sequence[Outcome]) -> Table:
    """Bug by bug."""
    bugs = [one for one in outcomes if one.name != "no bug"]
    shown = Table("seeded bug", "check", "result", "s", title=f"caught {sum(b.caught for b in bugs)}/{len(bugs)}")
    for one in bugs:
        shown.add_row(
            one.name, one.check, "caught" if one.caught else f"[red]MISSED[/] {one.why}", f"{one.seconds:.0f}"
        )
    return shown


def main() -> int:
    """Read the command line, play, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="only the bugs whose name has this text")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    given = parser.parse_args()
    console = Console()
    outcomes = play([mutant for mutant in MUTANTS if given.only in mutant.name], console)
    console.print(table(outcomes))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    return 0 if all(one.caught for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
