"""From redis-py's errors to ours. The question is always the same: what may the caller do now?

Redis' words for "not now" are known by name and become Unavailable: surely not done, the same call works later. A
connection that broke under way becomes OutcomeUnknown. What no waiting mends becomes Misconfigured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError as NoMasterAsync
from redis.sentinel import MasterNotFoundError as NoMaster

from eventbus.errors import EventBusError, Full, Misconfigured, OutcomeUnknown, Unavailable
from eventbus.redis.address import Address

REDIS_FAULTS = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError)
"""Whatever redis-py raises on the way to Redis and back."""

# Redis' words for "not now": redis-py has a class for some and takes the word off the text of those.
_PASSING_CLASSES = (
    exceptions.AskError,  # and MovedError: the slot is somewhere else, and nothing was done here
    exceptions.BusyLoadingError,
    exceptions.ClusterDownError,  # and MasterDownError
    exceptions.ReadOnlyError,
    exceptions.SlotNotCoveredError,
    exceptions.TryAgainError,
)
_MISSING_GROUP = ("NOGROUP", "The XGROUP subcommand requires the key to exist")  # the second is fakeredis' word for it
_DEMOTED = "The previous master is now a slave"  # what redis-py makes of READONLY behind Sentinel
_PASSING = ("BUSY", "NOREPLICAS", "UNBLOCKED", _DEMOTED, "TTL exhausted", *_MISSING_GROUP)
_CLUSTER_ERRORS = (exceptions.RedisClusterException, exceptions.ClusterError)


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn what redis-py raises into our errors; the text says where and what to try."""
    try:
        yield
    except REDIS_FAULTS as error:
        raise translate(error, address) from error


@contextmanager
def understood(address: Address) -> Iterator[None]:
    """An option that redis-py does not know is refused when the address is opened. Its texts quote no value."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise Misconfigured(f"{address.text}: {error}") from None


def translate(error: BaseException, address: Address) -> EventBusError:
    """Our error for one of redis-py's. A connection that broke under way means: it may have been done."""
    where = address.text
    said = str(error)
    in_script = said.startswith("The user executing the script can't")  # redis-py has no class for it
    if in_script or isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return Misconfigured(f"{where} refuses our credentials: {_first_line(said)}")
    if isinstance(error, exceptions.OutOfMemoryError) or said.startswith("OOM"):
        return Full(f"{where} has no memory left for new events: raise maxmemory or let workers catch up")
    if said.startswith("MISCONF"):
        return Full(f"{where} can't write to its disk: {_first_line(said)}")
    if "certificate verify failed" in said or "Hostname mismatch" in said:
        return Misconfigured(
            f"the certificate of {where} is not trusted, or is for another host name: "
            "name its authority with ?ssl_ca_certs=FILE, and the host as the certificate has it"
        )
    if isinstance(error, NoMaster | NoMasterAsync):
        return _no_master(said, address)
    if isinstance(error, _PASSING_CLASSES) or said.startswith(_PASSING):
        return Unavailable(f"{where} answered: {_first_line(said)}")
    if type(error) in _CLUSTER_ERRORS:
        return _no_cluster(error, address)
    if said.startswith("Timeout connecting"):
        return Unavailable(f"can't reach Redis at {where}: it did not answer in time. Is it running?")
    if isinstance(error, exceptions.ConnectionError) and said.startswith("Error") and "connecting to" in said:
        return Unavailable(f"can't reach Redis at {where}: {_reason(said)}. Is it running? Try: redis-cli ping")
    if isinstance(error, exceptions.MaxConnectionsError):
        return Unavailable(f"{where}: all connections of this process are in use")
    if isinstance(error, exceptions.ResponseError):
        return EventBusError(
            f"{where} refused a command of ours; is a key of the bus in other use? {_first_line(said)}"
        )
    return OutcomeUnknown(f"the connection to {where} broke: {_first_line(said) or type(error).__name__}")


def _no_master(said: str, address: Address) -> EventBusError:
    """redis-py collects the errors of all Sentinels in one text."""
    if "AuthenticationError" in said:
        return Misconfigured(
            f"the Sentinels of {address.text} refuse our credentials: add ?sentinel_password=... to the address"
        )
    return Unavailable(
        f"no Sentinel of {address.text} names a master that is up: wait for the fail-over, "
        f"or look with: redis-cli -p {address.hosts[0][1]} sentinel masters"
    )


def _no_cluster(error: BaseException, address: Address) -> EventBusError:
    """redis-py did not find its way in the cluster."""
    said, cause = str(error), error.__cause__
    if isinstance(cause, exceptions.AuthenticationError):
        return translate(cause, address)
    if "Cluster mode is not enabled" in said:
        return Misconfigured(f"{address.text} is no cluster, or its user may not ask CLUSTER SLOTS")
    if "cannot be connected" not in said and "not covered" not in said:
        return EventBusError(f"{address.text}: {_first_line(said)}")
    # The synchronous client looks for the nodes again while it handles the loss of a connection: then it may be done.
    kind = OutcomeUnknown if error.__context__ not in (None, cause) else Unavailable
    return kind(f"can't reach the cluster at {address.text}: {_first_line(said)}")


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else ""


def _reason(said: str) -> str:
    """The last sentence of redis-py's text: the system's word, such as `Connection refused`."""
    return _first_line(said).rstrip(".").rpartition(". ")[2] or "no answer"


def is_missing_group(error: BaseException | None) -> bool:
    """True when Redis says that the group or its log is not there (somebody deleted it)."""
    return isinstance(error, exceptions.ResponseError) and any(words in str(error) for words in _MISSING_GROUP)
