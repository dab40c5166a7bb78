"""Named places between two steps of a delivery, where a test makes this process die, stop, fail or wait.

Off, a call costs one look at a global. `EVENTBUS_FAILPOINTS` switches places on: `name:nth:action`, several separated
by commas; the action is taken at the n-th time this process comes by. `EVENTBUS_FAILPOINT_LOG` names a file to which
each process appends every place it comes by, once, so that a test run can tell which of them it never reached. An
unknown name or action is refused when the process starts. Nothing else configures it, and nothing in the bus depends
on it: no place is ever a condition of correct work.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping

from eventbus.errors import Misconfigured

SLEEP_SECONDS = 1.0

PLACES: Mapping[str, str] = {
    "publish.before_send": "a batch is complete; nothing has left",
    "publish.after_send": "Redis has confirmed a batch; no caller knows",
    "delivery.after_take": "Redis has given us deliveries; none has begun",
    "delivery.before_handle": "a delivery was chosen; its handler was not called",
    "delivery.after_handle": "the handler has returned; the delivery is not yet among the done ones",
    "delivery.before_settle": "a batch of done deliveries is chosen; nothing has left",
    "delivery.after_settle": "Redis has settled a batch; we still hold it",
    "delivery.before_retry": "another attempt was decided on; nothing has left",
    "delivery.after_retry": "Redis has the retry; we still hold the delivery",
    "delivery.before_bury": "a dead letter was decided on; nothing has left",
    "delivery.after_bury": "Redis has the dead letter; nobody was told",
    "effect.after_intent": "the ledger has the intent; nothing was called",
    "effect.after_call": "the third party has answered; the ledger does not know",
    "effect.before_done": "the result is about to be noted",
    "effect.after_done": "the ledger has the result; the handler has not returned",
    "upkeep.before_sweep": "a sweep is due; nothing has left",
    "upkeep.after_sweep": "Redis has taken deliveries back; nobody was told of those it buried",
    "upkeep.before_trim": "a trim is due; nothing has left",
    "upkeep.after_trim": "Redis has trimmed",
    "upkeep.before_promote": "scheduled events may be due; nothing has left",
    "upkeep.after_promote": "Redis has put the due ones into the log",
}
"""Every place, and what has happened when a process is there."""


class FailpointReached(RuntimeError):
    """What the action `raise` raises: a fault of ours, which no part of the bus expects."""


def _raise() -> None:
    raise FailpointReached("a failpoint was reached")


ACTIONS: Mapping[str, Callable[[], None]] = {
    "exit137": lambda: os._exit(137),  # as a shell reports kill -9: no clean-up of any kind
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleep": lambda: time.sleep(SLEEP_SECONDS),  # blocks the event loop, as a handler that computes does
    "raise": _raise,
}


def parse(text: str) -> dict[tuple[str, int], Callable[[], None]]:
    """(name, nth) to action. Raises Misconfigured naming what is not understood."""
    plan = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, rest = part.partition(":")
        nth, _, action = rest.partition(":")
        if name not in PLACES or not nth.isdecimal() or int(nth) == 0 or action not in ACTIONS:
            raise Misconfigured(
                f"EVENTBUS_FAILPOINTS: {part!r} is not name:nth:action with a name of {', '.join(sorted(PLACES))} "
                f"and an action of {', '.join(sorted(ACTIONS))}"
            )
        plan[name, int(nth)] = ACTIONS[action]
    return plan


class Failpoints:
    """What is switched on in this process, and how often it came by each place."""

    def __init__(self, plan: Mapping[tuple[str, int], Callable[[], None]], log: str) -> None:
        self._plan = plan
        self._log = log
        self._hits: Counter[str] = Counter()

    def hit(self, name: str) -> None:
        """This process is at this place."""
        if name not in PLACES:
            raise Misconfigured(f"{name!r} is no failpoint")
        self._hits[name] += 1
        if self._log and self._hits[name] == 1:
            self._note(name)
        action = self._plan.get((name, self._hits[name]))
        if action is not None:
            action()

    def _note(self, name: str) -> None:
        file = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, f"{name}\n".encode())
        os.close(file)


def _from(environment: Mapping[str, str]) -> Failpoints | None:
    plan, log = parse(environment.get("EVENTBUS_FAILPOINTS", "")), environment.get("EVENTBUS_FAILPOINT_LOG", "")
    return Failpoints(plan, log) if plan or log else None


_armed = _from(os.environ)


def failpoint(name: str) -> None:
    """This process is at the place of this name (see `PLACES`). Does nothing unless the environment says so."""
    if _armed is not None:
        _armed.hit(name)
