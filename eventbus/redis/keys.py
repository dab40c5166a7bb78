"""Every key and channel name, made here and nowhere else.

All keys of a shard share one hash tag, so that its scripts work on a cluster. What comes from outside (idempotency
keys) is hashed: no name can be injected. Each key has an owner and a lifetime:

    {ns:log:shard}:log, :sequence, :groups    the shard; as long as the bus lives
    {...}:trimmed                             a counter: events that trim.lua forgot
    {...}:retired                             retired groups with dead letters; until these are dropped
    {...}:later, :letters                     scheduled events; until they are due
    {...}:alive                               the sweep; consumers leave it when they end
    {...}:fence                               a counter
    {...}:once:<hash>                         one published idempotency key; its dedupe window
    {...}:done:<hash>                         one ledger row of an event's action; the ledger's lifetime
    {...}:group:<group>:<part>                one subscription; goes empty when its work is done (dead: until handled)
    {ns:done:<hash>}                          a ledger row of an action with a key of its own
    {ns:store:<name>}, and :<row>             an integration's own table, and its rows with a lifetime. That of the
                                              registry is `noise`: silence:<id>, group:<digest>, inhibition:<name>
    {ns:tally:<name>}, :changed               an integration's numbers; as long as the bus lives
    {ns:tally:<name>}:once:<hash>             one key that was counted; as long as the ledger
    {ns:gate:<account>}, and :<budget>        when an account may be called; a day after its last call
    {ns:trail:<hash>}                         what integrations did about an event; as long as the ledger
    {ns:journal}, and :warnings               the newest log lines of all programs; bounded in number, for ever
"""

from __future__ import annotations

import hashlib

_GROUP_PARTS = (
    *("tail", "next", "ready", "suspects", "due", "attempts", "crashes", "pause", "dead"),
    *("counts", "told", "replayed"),
)
_DUE = 4 + _GROUP_PARTS.index("due")
_DEAD = 4 + _GROUP_PARTS.index("dead")
_COUNTS = 4 + _GROUP_PARTS.index("counts")
_TOLD = 4 + _GROUP_PARTS.index("told")

LONGEST_PLAIN = 64


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class ShardKeys:
    """The names of one shard of one log."""

    def __init__(self, namespace: str = "eventbus", log: str = "main", shard: int = 0) -> None:
        self.namespace = namespace
        self.tag = f"{{{namespace}:{log}:{shard}}}"
        self.log = f"{self.tag}:log"
        self.sequence = f"{self.tag}:sequence"
        self.groups = f"{self.tag}:groups"
        self.alive = f"{self.tag}:alive"
        self.fence = f"{self.tag}:fence"
        self.trimmed = f"{self.tag}:trimmed"
        self.later = f"{self.tag}:later"
        self.letters = f"{self.tag}:letters"
        self.retired = f"{self.tag}:retired"
        self.bell = f"{self.tag}:bell"  # a channel: somebody may have work
        self._groups: dict[str, tuple[str, ...]] = {}

    def once(self, idempotency_key: str) -> str:
        """Where a published idempotency key is remembered. A short one stands there as it is: that costs least."""
        if len(idempotency_key) <= LONGEST_PLAIN and idempotency_key.isascii():
            return f"{self.tag}:once:={idempotency_key}"
        return f"{self.tag}:once:{_hash(idempotency_key)}"

    def done(self, action_key: str) -> str:
        """The ledger row of an action that belongs to an event of this shard."""
        return f"{self.tag}:done:{_hash(action_key)}"

    def done_alone(self, action_key: str) -> str:
        """The ledger row of an action that belongs to no event."""
        return f"{{{self.namespace}:done:{_hash(action_key)}}}"

    def store(self, name: str) -> str:
        """The table of an integration."""
        return f"{{{self.namespace}:store:{name}}}"

    def tally(self, name: str, key: str = "") -> tuple[str, str, str]:
        """The KEYS of tally.lua: the numbers of an integration, when each changed, and where a key is remembered."""
        rows = f"{{{self.namespace}:tally:{name}}}"
        return rows, f"{rows}:changed", f"{rows}:once:{_hash(key)}"

    def gate(self, account: str) -> str:
        """When an account may be called."""
        return f"{{{self.namespace}:gate:{account}}}"

    def trail(self, event_id: str) -> str:
        """What integrations did about an event."""
        return f"{{{self.namespace}:trail:{_hash(event_id)}}}"

    @property
    def journal(self) -> str:
        """The newest log lines of all programs."""
        return f"{{{self.namespace}:journal}}"

    @property
    def warnings(self) -> str:
        """The newest of them that are warnings or worse."""
        return f"{self.journal}:warnings"

    def group(self, group: str) -> tuple[str, ...]:
        """The KEYS of every group script, in the order lua/common.lua names them."""
        names = self._groups.get(group)
        if names is None:
            parts = tuple(f"{self.tag}:group:{group}:{part}" for part in _GROUP_PARTS)
            names = self._groups[group] = (self.log, self.groups, self.alive, self.fence, *parts, self.sequence)
        return names

    def due(self, group: str) -> str:
        """When the retries of a group are due."""
        return self.group(group)[_DUE]

    def dead(self, group: str) -> str:
        """The dead letters of a group."""
        return self.group(group)[_DEAD]

    def counts(self, group: str) -> str:
        """How many deliveries of a group ended, and how."""
        return self.group(group)[_COUNTS]

    def told(self, group: str) -> str:
        """The last dead letter of a group that was announced."""
        return self.group(group)[_TOLD]
