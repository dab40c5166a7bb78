"""What an adapter may raise, one class for each thing the dispatcher does about it.

    IntegrationError
    ├── NotReady         the service is not there yet: tried again with back-off
    ├── RateLimited      it asked us to slow down: the whole account waits `retry_after`; burns no attempt
    ├── Unreachable      surely nothing was done (refused, DNS, TLS): tried again with back-off
    ├── ServiceFault     it answered 5xx: tried again with back-off; the effect may exist
    ├── OutcomeUnknown   no answer after the request left: looked up or repeated as the manifest's `effects` allows
    ├── Rejected         it refused this request for good: dead-lettered with its answer
    ├── AuthFailed       our credentials are refused: the event waits, people are told
    ├── Disabled         it is switched off: the event waits, burns no attempt; people are told, once
    └── Misconfigured    the settings can't work: never tried again

Anything else that an adapter raises is a fault of the adapter: contained, tried again within the limit, then buried.

The inbound side raises `Refusal`s; the gateway turns each into its HTTP status.
"""

from __future__ import annotations

from datetime import timedelta


class IntegrationError(Exception):
    """The root. `detail` is for people and must hold no secret."""

    def __init__(self, detail: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class NotReady(IntegrationError):
    """The service can't be used yet."""


class RateLimited(IntegrationError):
    """Too many requests; `retry_after` is a floor for the whole account."""


class Unreachable(IntegrationError):
    """No connection was made: the request surely was not carried out."""


class ServiceFault(IntegrationError):
    """The service failed while it held our request (5xx)."""


class OutcomeUnknown(IntegrationError):
    """The request left and no answer came: it may have been carried out."""


class Rejected(IntegrationError):
    """The service understood and refused; repeating the same request can't help."""


class AuthFailed(IntegrationError):
    """Our credentials are missing, expired or lack a right."""


class Disabled(IntegrationError):
    """Switched off, by its own wish, by a person or after days of failures.

    `since`, in Unix seconds, names the occasion: people are told once for each. `retry_after`: when to look again.
    """

    def __init__(self, detail: str, *, since: float, retry_after: timedelta | None = None) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.since = since


class Misconfigured(IntegrationError):
    """A setting can't work; the text names it and what to do."""


class Refusal(Exception):
    """An inbound request that is turned away. The text is safe to show to its sender; `reason` is for our log only."""

    status = 400

    def __init__(self, detail: str, *, reason: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or detail


class Malformed(Refusal):
    """Not what the service sends: not JSON, not UTF-8, nested too deep, fields missing."""

    status = 400


class Unauthorized(Refusal):
    """The signature is missing or wrong, or the time stamp is too old. One text for all: a forger learns nothing."""

    status = 401


class Replayed(Refusal):
    """This signed request was accepted before."""

    status = 409


class TooLarge(Refusal):
    """The body is larger than the service ever sends."""

    status = 413
