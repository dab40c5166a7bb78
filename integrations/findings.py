"""What the doctors of several adapters look at alike: rights, clocks, limits, secrets. Pure but for our own clock.

`Finding` is in `base`; each adapter's `doctor` asks its service and puts its findings together.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterable, Mapping

from pydantic import SecretStr

from integrations.base import Finding, Scope
from integrations.errors import AuthFailed, IntegrationError, Misconfigured, RateLimited, Rejected, Unreachable
from integrations.signing import TOLERANCE_SECONDS

CLOCK_SECONDS = 60.0
"""A difference that is worth a word; from TOLERANCE_SECONDS on, signed requests are refused by either side."""
LOW = 0.1
"""Of a limit: so little left is worth a word."""
SECRET_CHARACTERS = 16
"""A shorter secret can be guessed offline from one signed webhook: 16 hex digits are 64 bits."""


def clock(headers: Mapping[str, str], service: str) -> Finding:
    """Our clock against the Date of an answer (RFC 9110, section 6.6.1), which is cut to the second."""
    try:
        theirs = email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp() + 0.5
    except (TypeError, ValueError):
        return Finding("clock", "ok", f"{service} names no time to compare with")
    ahead = time.time() - theirs
    what = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {service}"
    if abs(ahead) <= CLOCK_SECONDS:
        return Finding("clock", "ok", f"within {CLOCK_SECONDS:.0f} s of {service}")
    too_far = abs(ahead) > TOLERANCE_SECONDS
    fix = f"set this machine's clock by a time server; signatures are good for {TOLERANCE_SECONDS} s"
    return Finding("clock", "fail" if too_far else "warn", what, fix)


def rights(scopes: Iterable[Scope], granted: Callable[[str], bool], fix: str) -> list[Finding]:
    """What our credentials may do. A right that is not needed is only named when it is missing."""
    missing = [scope for scope in scopes if not granted(scope.name)]
    needed = [
        Finding("rights", "fail", f"{one.name} is missing: {one.why}", fix.format(one.name))
        for one in missing
        if one.needed
    ]
    without = "; ".join(f"{one.name} ({one.why})" for one in missing if not one.needed)
    said = "all that are needed" + (f"; not granted, and needed only for what they say: {without}" if without else "")
    return needed or [Finding("rights", "ok", said)]


def limit(remaining: int, of: int, period: str) -> Finding:
    """How much of a request limit is left."""
    what = f"{remaining:,} of {of:,} requests left, {period}"
    if remaining < of * LOW:
        return Finding("limit", "warn", what, "see who else uses these credentials")
    return Finding("limit", "ok", what)


def webhook_secret(secret: SecretStr | None, setting: str, where: str) -> Finding:
    """Whether what the service sends us can be verified. `where`: where the service has the same secret."""
    if secret is None:
        fix = f"set {setting} to the secret that stands at {where}; not needed where nothing is to come in"
        return Finding("webhooks", "warn", f"{setting} is not set: every request from there is refused", fix)
    if len(secret) < SECRET_CHARACTERS:
        fix = f"make one with `openssl rand -hex 32`, for {setting} and {where}"
        return Finding("webhooks", "warn", f"{setting} has {len(secret)} characters: it can be guessed", fix)
    return Finding("webhooks", "ok", f"{setting} is set")


def failed(about: str, error: IntegrationError, fix: str) -> Finding:
    """A question that failed. `fix` is for refused credentials and what the service does not know."""
    if isinstance(error, RateLimited):
        return Finding(about, "warn", error.detail, "ask again later")
    if isinstance(error, Unreachable):
        return Finding(about, "fail", error.detail, "check the address, DNS, and what this machine may connect to")
    knows = isinstance(error, AuthFailed | Rejected | Misconfigured)
    return Finding(about, "fail", error.detail, fix if knows else "look at the service's status page; ask again later")
