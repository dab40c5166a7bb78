"""Fields that the settings of several adapters have alike: secrets, texts, topic patterns, addresses of services.

Each adapter's `config` builds its model of these and of what is its own. Nothing here says what a service takes, and no
error repeats a secret that was given.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from eventbus.errors import Misconfigured
from eventbus.pattern import check_pattern


def _pattern(value: str) -> str:
    try:
        return check_pattern(value)
    except Misconfigured as error:
        raise ValueError(str(error)) from None


Pattern = Annotated[str, AfterValidator(_pattern)]
"""Of topics."""

# An environment variable that is set but empty means "not set".
Secret = Annotated[SecretStr | None, BeforeValidator(lambda value: value or None)]
Text = Annotated[str | None, BeforeValidator(lambda value: value or None)]

NonEmptySecret = Annotated[SecretStr, Field(min_length=1)]
"""Of one in a list: an empty one there would be taken for a secret that everybody knows."""


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine. A name is believed only where it is `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(value: str, *, such_as: str, sends: str) -> str:
    """The address of a service, without a slash at its end: https, or http where it stays on this machine.

    Raises ValueError: with `such_as` for what is no address or has ?, # or a password, with `sends` for what would go
    over the network in the clear.
    """
    parts = urlsplit(value)
    host = parts.hostname or ""
    is_place = parts.scheme in ("http", "https") and host and "@" not in parts.netloc
    if not is_place or parts.query or parts.fragment:
        raise ValueError(f"is no address such as {such_as}, without ?, # and password")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"would send {sends} in the clear: use https")
    return value.rstrip("/")
