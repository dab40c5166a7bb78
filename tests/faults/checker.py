"""Compares what was asked with what happened. Pure: histories, effects and the final state in, a verdict out.

The receiver's list of effects is the truth; nothing that the bus says about itself clears it of a charge. Violations:

    lost        accepted, and a group that wants it neither made its effect nor has it among its dead letters
    phantom     an effect or dead letter of an event that was never sent, or whose publisher was told: surely not stored
    duplicate   one event stands in the log more than once
    order       the first effects of one key's events, in a group that keeps order, are not in the log's order; or the
                log's order is not that in which one publisher had them confirmed
    early       an attempt began before the time its retry or schedule asked for
    twice       a second effect of one event in a group whose effects can be looked up, or are known by their key
    buried      a dead letter that no handler asked for
    stuck       a group has unfinished work after everything healed
    slow        a fault was not recovered from within the bound
    silent      the disk lost events and no alarm told of it within the bound
    false alarm the bus told of a gap though nothing was lost

A disk that loses what was accepted (`Fault.lost`) excuses lost events, numbers that are given out again, and effects
that the ledger no longer knows of; what is asked for then is the alarm. A fail-over excuses the same of what was done
shortly before it or while no master was there, but never an accepted event: replicas had confirmed it. Executions that
were repeated are counted and no violation: delivery is at least once.

Who is frozen between the ledger's permission and its own call acts late, and no ledger can call it back. Such a second
effect is counted as `late_by_a_frozen_worker`, if the histories prove it: the worker had its permission, and was
stopped from then to its effect for longer than a permission may be old (`fresh`). Where the receiver knows effects by
their key there is none to excuse.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PLAIN, SEARCHABLE, KEYED = "plain", "searchable", "keyed"
"""What a group's effects are, see `Group`."""

TOLERANCE = 0.005
"""Seconds. Redis keeps due times in whole milliseconds, of a clock that is adjusted while ours is not."""

SHOWN = 5
LOSES_ITS_WORK = ("kill worker", "stop worker")
FREEZES = "stop worker"
FAILS_OVER = "fail over"
NO_REPLICA = "no replica"
KILLS_SPOOLERS = "kill who spools"

FORGOTTEN_SECONDS = 2.0
"""What was done so long before the death of a master may be forgotten. A replica in step is behind by one turn of the
master's event loop; the rest is for a machine that has other things to do."""
VIOLATIONS = (
    "lost",
    "phantom",
    "duplicate",
    "order",
    "early",
    "twice",
    "buried",
    "stuck",
    "slow",
    "silent",
    "false alarm",
)


@dataclass(frozen=True, slots=True)
class Effect:
    """One line of the receiver, `at` by its clock. Their order in the file is the order in which they happened."""

    event: str
    key: str
    sequence: int
    group: str
    attempt: int
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what, to whom (a pid, or 0), from when until it was healed; how many accepted events the disk lost."""

    kind: str
    pid: int
    start: float
    heal: float
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A durable group: the topics it wants, whether it keeps order by key, and what is known of its effects after a
    crash: nothing, what a look-up finds, or what the receiver knows by the key."""

    topics: Collection[str]
    ordered: bool
    effects: str = PLAIN


@dataclass(slots=True)
class Final:
    """What Redis holds after everything healed. `log`: entries of each event that are still there."""

    dead: dict[str, list[str]] = field(default_factory=dict)
    unfinished: dict[str, int] = field(default_factory=dict)
    log: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Sent:
    """What one event's publishers know of it. `due`: no attempt before this time. `sequence` is 0 while it waits in a
    schedule or spool."""

    topic: str
    key: str
    plan: str
    due: float | None
    tries: int = 0
    refusals: int = 0
    accepted: float | None = None
    sequence: int = 0
    spooled: bool = False

    @property
    def is_rejected(self) -> bool:
        """Surely not stored: every try was refused."""
        return self.accepted is None and self.tries == self.refusals


@dataclass(frozen=True, slots=True)
class Begun:
    """One call of a handler."""

    at: float
    attempt: int
    pid: int


@dataclass(slots=True)
class Verdict:
    """What a run showed."""

    counts: dict[str, int]
    reach: dict[str, int]
    found: dict[str, list[str]]
    recovery: list[tuple[str, float]]
    latency: list[float]
    faults: list[str]

    @property
    def violations(self) -> dict[str, int]:
        """How many of each kind; all are 0 in a good run."""
        return {kind: len(self.found[kind]) for kind in VIOLATIONS}

    @property
    def is_good(self) -> bool:
        """No violation at all."""
        return not any(self.violations.values())

    def examples(self) -> list[str]:
        """The first few violations of each kind, for people."""
        return [f"{kind}: {text}" for kind in VIOLATIONS for text in self.found[kind][:SHOWN]]


def check(
    history: Iterable[Mapping[str, Any]],
    effects: Sequence[Effect],
    faults: Sequence[Fault],
    final: Final,
    groups: Mapping[str, Group],
    *,
    bound: float = float("inf"),
    fresh: float = 1.0,
) -> Verdict:
    """The verdict on one run. `history` has each program's lines in their order; `bound` and `fresh` are in seconds."""
    told = _Told(history)
    found: dict[str, list[str]] = {kind: [] for kind in VIOLATIONS}
    first, repeated = _first_effects(effects)
    dead = {(group, event) for group, events in final.dead.items() for event in events}
    gone = _Forgotten(faults)
    doubled = [pair for pair in repeated if groups[pair[1].group].effects == SEARCHABLE and not gone.covers(pair[0])]
    late = [pair for pair in doubled if any(_was_frozen(one, told, faults, fresh) for one in pair)]

    lost = list(_lost(told.sent, {*first, *dead}, groups))
    found["twice"] += _twice([pair for pair in repeated if groups[pair[1].group].effects == KEYED])
    if any(fault.lost for fault in faults):
        found["silent"] += _silent(faults, told.gaps, bound)
    else:
        found["lost"] += lost
        found["duplicate"] += _duplicate(effects, final, gone)
        found["order"] += [*_effect_order(first, groups, gone), *_log_order(told, effects)]
        found["false alarm"] += [text for at, text in told.gaps if not gone.at_least(at, bound)]
        found["twice"] += _twice([pair for pair in doubled if pair not in late])
    found["phantom"] += _phantom(told.sent, {*first, *dead}, groups)
    found["early"] += told.early()
    found["buried"] += [f"{e} in {g}" for g, e in sorted(dead) if e in told.sent and told.sent[e].plan != "refuse"]
    found["stuck"] += [f"{group}: {left} unfinished" for group, left in final.unfinished.items() if left]
    recovery = _recoveries(faults, told, first)
    found["slow"] += [
        f"{kind}: {took:.1f} s, the bound is {bound:g}"
        for kind, took in recovery
        if took > bound and kind != FAILS_OVER  # nothing is confirmed before a replica is back: see NO_REPLICA
    ]

    accepted = [one for one in told.sent.values() if one.accepted is not None]
    unsure = [event for event, one in told.sent.items() if one.accepted is None and not one.is_rejected]
    seen = {event for _, event in first} | {event for _, event in dead}
    killed = {fault.pid for fault in faults if fault.kind == "kill worker"}
    return Verdict(
        counts={
            "attempted": len(told.sent),
            "accepted": len(accepted),
            "accepted_by_a_spool": sum(one.spooled for one in accepted),
            "unknown": len(unsure),
            "unknown_found_done": sum(event in seen for event in unsure),
            "rejected": sum(one.is_rejected for one in told.sent.values()),
            "lost": len(lost),
            "effects": len(first),
            "dead_letters": len(dead),
            "executions": told.executions,
            "repeated_effects": len(repeated),
            "late_by_a_frozen_worker": len(late),
            "forgotten_by_a_fail_over": sum(gone.covers(before) for before, _ in repeated),
            "faults": len(faults),
        },
        reach={
            "killed_between_effect_and_settle": sum(
                before.pid in killed and after.pid != before.pid for before, after in repeated
            ),
            "stale_finish_refused": told.fenced,
            "taken_over": told.taken_over(),
            "reply_lost_after_commit": told.confirmed_again,
            "publish_refused": told.refusals,
            "publish_unknown": told.unknowns,
            "retried": told.retried(),
            "dead_letter": len(dead),
            "repeat_known_by_its_key": told.known,
            "spool_left_by_a_killed_program": _left_in_spools(told.sent, faults, first),
            "alarm": len(told.gaps),
        },
        found=found,
        recovery=recovery,
        faults=[fault.kind for fault in faults],
        latency=sorted(
            one.at - sent.accepted
            for (_, event), one in first.items()
            if (sent := told.sent.get(event)) is not None and sent.accepted is not None and sent.due is None
        ),
    )


class _Forgotten:
    """What fail-overs may have made Redis forget: see FORGOTTEN_SECONDS."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._spans = [(one.start, one.heal) for one in faults if one.kind == FAILS_OVER]

    def covers(self, effect: Effect) -> bool:
        """Whether the place, the settlement and the ledger row of this effect may be gone."""
        return any(start - FORGOTTEN_SECONDS <= effect.at <= heal for start, heal in self._spans)

    def at_least(self, at: float, bound: float) -> bool:
        """Whether an alarm at this time may be about that."""
        return any(start <= at <= heal + bound for start, heal in self._spans)


class _Told:
    """The histories, put together event by event."""

    def __init__(self, history: Iterable[Mapping[str, Any]]) -> None:
        self.sent: dict[str, Sent] = {}
        self.executions = self.fenced = self.confirmed_again = self.refusals = self.unknowns = self.known = 0
        self.lanes: dict[tuple[str, str], list[str]] = defaultdict(list)  # publisher, key: events as they were accepted
        self.permitted: dict[tuple[int, str, int], list[float]] = defaultdict(list)  # pid, group, number in the log
        self.gaps: list[tuple[float, str]] = []
        self.begun: dict[tuple[str, str], list[Begun]] = defaultdict(list)
        self._asked: dict[tuple[str, str, int], float] = {}  # group, event, attempt: when the next one may begin
        self._open: dict[tuple[str, int, int], list[str]] = {}
        for line in history:
            match line["op"]:
                case "publish":
                    self._publish(line)
                case "begin":
                    self.executions += 1
                    began = Begun(line["t"], line["attempt"], line["pid"])
                    self.begun[line["group"], line["event"]].append(began)
                case "later":
                    asked = line["group"], line["event"], line["attempt"]
                    due = line["t"] + line["after"]
                    self._asked[asked] = min(due, self._asked.get(asked, due))
                case "may":
                    self.permitted[line["pid"], line["group"], line["sequence"]].append(line["t"])
                case "known":
                    self.known += 1
                case "fenced":
                    self.fenced += 1
                case "gap":
                    self.gaps.append((line["t"], f"{line['kind']}: {line['count']} events"))

    def _publish(self, line: Mapping[str, Any]) -> None:
        call = (line["name"], line["pid"], line["call"])
        match line["phase"]:
            case "invoke":
                self._open[call] = [one[0] for one in line["events"]]
                for event, key, topic, plan, delay in line["events"]:
                    due = line["t"] + delay if delay else None
                    self.sent.setdefault(event, Sent(topic, key, plan, due)).tries += 1
            case "ok":
                for event, status, sequence in line["receipts"]:
                    self._accepted(line, event, status, sequence)
            case "fail":
                self.refusals += 1
                for event in self._open[call]:
                    self.sent[event].refusals += 1
            case "info":
                self.unknowns += 1

    def _accepted(self, line: Mapping[str, Any], event: str, status: str, sequence: int) -> None:
        sent = self.sent[event]
        if sent.accepted is not None:
            return
        sent.accepted, sent.sequence, sent.spooled = line["t"], sequence, status == "spooled"
        self.confirmed_again += status == "duplicate"
        if sent.due is None and sent.key:
            self.lanes[line["name"], sent.key].append(event)

    def early(self) -> list[str]:
        """Attempts that began too soon. The number of an attempt grows only when the retry before it is in Redis."""
        found = []
        for (group, event), attempts in self.begun.items():
            sent = self.sent.get(event)
            for began in attempts:
                due = self._asked.get((group, event, began.attempt - 1))
                if began.attempt == 1 and sent is not None:
                    due = sent.due
                if due is not None and began.at < due - TOLERANCE:
                    found.append(f"{event} in {group}, attempt {began.attempt}: {due - began.at:.3f} s before its time")
        return found

    def taken_over(self) -> int:
        """Attempts that another process had begun before, under the same number."""
        return sum(
            len({(one.attempt, one.pid) for one in attempts}) - len({one.attempt for one in attempts})
            for attempts in self.begun.values()
        )

    def retried(self) -> int:
        """Retries that came: an attempt was asked for, and the next one began."""
        return sum(
            any(one.attempt == attempt + 1 for one in self.begun.get((group, event), ()))
            for group, event, attempt in self._asked
        )


def _first_effects(effects: Iterable[Effect]) -> tuple[dict[tuple[str, str], Effect], list[tuple[Effect, Effect]]]:
    """The first effect of each (group, event), in the order they happened; and every repeat with the one before it."""
    first: dict[tuple[str, str], Effect] = {}
    last: dict[tuple[str, str], Effect] = {}
    repeated = []
    for one in effects:
        place = (one.group, one.event)
        if place in last:
            repeated.append((last[place], one))
        else:
            first[place] = one
        last[place] = one
    return first, repeated


def _lost(sent: Mapping[str, Sent], ended: Collection[tuple[str, str]], groups: Mapping[str, Group]) -> Iterable[str]:
    for event, one in sent.items():
        if one.accepted is not None:
            for name, group in groups.items():
                if one.topic in group.topics and (name, event) not in ended:
                    yield f"{event} in {name}"


def _silent(faults: Iterable[Fault], gaps: Iterable[tuple[float, str]], bound: float) -> Iterable[str]:
    for fault in faults:
        if fault.lost and not any(fault.start <= at <= fault.heal + bound for at, _ in gaps):
            yield f"{fault.kind}: {fault.lost} accepted events are gone, and no alarm came within {bound:g} s"


def _phantom(sent: Mapping[str, Sent], ended: Iterable[tuple[str, str]], groups: Mapping[str, Group]) -> Iterable[str]:
    for name, event in ended:
        one = sent.get(event)
        if one is None:
            yield f"{event} in {name}: nobody sent it"
        elif one.is_rejected:
            yield f"{event} in {name}: its publisher was told that it is surely not stored"
        elif one.topic not in groups[name].topics:
            yield f"{event} in {name}, which does not want {one.topic}"


def _twice(pairs: Iterable[tuple[Effect, Effect]]) -> Iterable[str]:
    for a, b in pairs:
        yield f"{b.event} in {b.group} by {a.pid} and {(b.at - a.at):.3f} s later by {b.pid}"


def _was_frozen(one: Effect, told: _Told, faults: Iterable[Fault], fresh: float) -> bool:
    """Whether its worker was stopped for longer than `fresh` between its last permission and this effect."""
    permissions = [at for at in told.permitted[one.pid, one.group, one.sequence] if at <= one.at]
    return bool(permissions) and any(
        min(fault.heal, one.at) - max(fault.start, max(permissions)) > fresh
        for fault in faults
        if fault.kind == FREEZES and fault.pid == one.pid
    )


def _duplicate(effects: Iterable[Effect], final: Final, gone: _Forgotten) -> Iterable[str]:
    places: dict[str, dict[int, bool]] = defaultdict(dict)  # and whether it may be forgotten
    for one in effects:
        places[one.event][one.sequence] = places[one.event].get(one.sequence, True) and gone.covers(one)
    for event, numbers in places.items():
        if sum(not may_be_gone for may_be_gone in numbers.values()) > 1:
            yield f"{event} stands in the log as {sorted(numbers)}"
    for event, entries in final.log.items():
        if entries > 1 and len(places[event]) < 2:
            yield f"{event} stands in the log {entries} times"


def _effect_order(
    first: Mapping[tuple[str, str], Effect], groups: Mapping[str, Group], gone: _Forgotten
) -> Iterable[str]:
    highest: dict[tuple[str, str], Effect] = {}
    for (group, event), one in first.items():
        if not one.key or not groups[group].ordered or gone.covers(one):
            continue
        before = highest.setdefault((group, one.key), one)
        if one.sequence < before.sequence:
            yield f"{event} ({one.sequence}) of {one.key} in {group} after {before.event} ({before.sequence})"
        else:
            highest[group, one.key] = one


def _log_order(told: _Told, effects: Iterable[Effect]) -> Iterable[str]:
    """Whether what one publisher had accepted stands in the log in that order. Where a spooled event came to stand its
    effects tell; the last one, as a fail-over may have moved it."""
    places = {one.event: one.sequence for one in effects}
    for (_, key), events in told.lanes.items():
        highest = 0
        for event in events:
            sequence = told.sent[event].sequence or places.get(event)
            if sequence is None:
                continue
            if sequence <= highest:
                yield f"{event} of {key} is number {sequence}; one accepted earlier is {highest}"
            highest = max(highest, sequence)


def _left_in_spools(sent: Mapping[str, Sent], faults: Iterable[Fault], first: Mapping[tuple[str, str], Effect]) -> int:
    """Spooled events whose keeper was killed before they were sent."""
    kills = [fault.heal for fault in faults if fault.kind == KILLS_SPOOLERS]
    arrived: dict[str, float] = {}
    for (_, event), one in first.items():
        arrived[event] = min(one.at, arrived.get(event, one.at))
    return sum(
        any(one.accepted < at < arrived[event] for at in kills)
        for event, one in sent.items()
        if one.spooled and one.accepted is not None and event in arrived
    )


def _recoveries(
    faults: Iterable[Fault], told: _Told, first: Mapping[tuple[str, str], Effect]
) -> list[tuple[str, float]]:
    """Seconds per fault.

    After the loss of a worker: from the loss until the last of what it had in hand has its effect. After any other:
    from its heal (a fail-over heals itself: from its start) to the first attempt begun since at an event that was
    accepted after the fault began. A fault after which nothing was left to do has no time.
    """
    begun = sorted((one.at, event) for (_, event), attempts in told.begun.items() for one in attempts)
    times = [at for at, _ in begun]
    found = []
    for fault in faults:
        if fault.kind in LOSES_ITS_WORK:
            ends = [
                first[place].at
                for place, attempts in told.begun.items()
                if place in first
                and first[place].at > fault.start
                and any(one.pid == fault.pid and one.at < fault.start for one in attempts)
            ]
            if ends:
                found.append((fault.kind, max(ends) - fault.start))
            continue
        since = fault.start if fault.kind == FAILS_OVER else fault.heal
        for at, event in begun[bisect_left(times, since) :]:
            sent = told.sent.get(event)
            if sent is not None and sent.accepted is not None and sent.accepted >= fault.start:
                found.append((fault.kind, at - since))
                break
    return found
