"""Takes an account's secrets out of what is told to people and kept.

Adapters hold no secret in their own words; a service may repeat what it was sent, and a library may put a header into
its error. This is the net below: the dispatcher puts every text through it that comes out of an adapter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote

from pydantic import BaseModel, SecretStr

SHORTEST = 6
"""Shorter secrets are not looked for: they would be found in words that have nothing to do with them."""
LONG_LINE = 16
"""Shorter lines of a secret that has several are not looked for by themselves, for the same reason."""
INSTEAD = "[secret]"


class Redactor:
    """Knows the secrets of one account's settings, and shows none."""

    __slots__ = ("_secrets",)

    def __init__(self, settings: object = None) -> None:
        known = {part for secret in secrets_in(settings) for part in _parts(secret)}
        found = {secret for secret in known if len(secret) >= SHORTEST}
        found |= {quote(secret, safe="") for secret in found}
        found |= {json.dumps(secret, ensure_ascii=plain)[1:-1] for secret in found for plain in (True, False)}
        self._secrets = sorted(found, key=len, reverse=True)  # one may be the beginning of another

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets)} secrets)"

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, INSTEAD)
        return text


def _parts(secret: str) -> Iterator[str]:
    """The secret as it stands, stripped, and its long lines: programs put a key of several lines into one.

    The lines around a key say what it is, and are no secret (RFC 7468, section 2).
    """
    yield from (secret, secret.strip())
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= LONG_LINE and not line.startswith("-----"))


def secrets_in(value: object) -> Iterator[str]:
    """The text of every SecretStr, however deep."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        yield from secrets_in([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, Mapping):
        yield from secrets_in(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from secrets_in(item)
