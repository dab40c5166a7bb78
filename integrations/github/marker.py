"""The hidden signed marker: how we recognise what we made, when the answer that told us was lost.

It names, as digests under our key, the delivery that wrote the text and the thread that the text is about, and in the
clear the event it followed from; a seal covers all three, so that a marker can be checked by who knows none of them.
In a text it stands in an HTML comment, which GitHub stores and does not show; a check run bears it as its external id.

Anybody may read and copy one, so finding it proves nothing by itself: who looks also asks that our own account wrote
the text. The seal keeps others from preparing a text that holds the marker of a delivery still to come.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass

from integrations.github.config import GitHubConfig

PREFIX = "eventbus:v1"
_PURPOSE = b"eventbus marker v1"
_MARK = re.compile(rf"{PREFIX}:([0-9a-f]{{32}}):([0-9a-f]{{32}})?:([A-Za-z0-9._-]{{0,64}}):([0-9a-f]{{32}})")
_HIDDEN = re.compile(f"<!-- {_MARK.pattern} -->")
_CAUSE = re.compile(r"(?!.*--)[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
"""What may stand in an HTML comment without ending it. Other ids of events are left out."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A marker whose seal is ours: digests of delivery and thread, and the event's id; empty where it has none."""

    delivery: str
    thread: str
    cause: str


class Marker:
    """Makes and reads the markers of one account.

    The key is `marker_secret`, else `webhook_secret`; neither changes when a token is replaced. An account that has
    neither signs with its address and app id, which are no secret: there only the author of a text is proof.
    """

    def __init__(self, config: GitHubConfig) -> None:
        given = [s for s in (config.marker_secret, *config.webhook_secrets) if s is not None]
        public = f"{config.base_url} {config.app_id or ''}"
        secrets = [secret.get_secret_value() for secret in given] or [public]
        # Derived, so that no value is an HMAC key for two purposes.
        self._keys = [hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256) for secret in secrets]

    def sign(self, key: str, thread: str = "", cause: str = "") -> str:
        """The marker of the delivery with this idempotency key, without the signs of a comment around it."""
        secret = self._keys[0]
        named = f"{_delivery(secret, key)}:{_thread(secret, thread)}:{cause if _CAUSE.fullmatch(cause) else ''}"
        return f"{PREFIX}:{named}:{_seal(secret, named)}"

    def read(self, text: str) -> Iterator[Mark]:
        """Every marker of ours in a text, hidden or the whole of it: also those made before a secret was replaced.

        One that is shown is somebody's text: `render` breaks the comments that untrusted text brings along.
        """
        whole = _MARK.fullmatch(text)
        for found in [whole] if whole else _HIDDEN.finditer(text):
            delivery, thread, cause, seal = found[1], found[2] or "", found[3], found[4]
            named = f"{delivery}:{thread}:{cause}"
            if any(hmac.compare_digest(_seal(secret, named), seal) for secret in self._keys):
                yield Mark(delivery, thread, cause)

    def is_of_delivery(self, text: str, key: str) -> bool:
        """Whether the delivery with this key wrote the text."""
        wanted = {_delivery(secret, key) for secret in self._keys}
        return any(mark.delivery in wanted for mark in self.read(text))

    def is_of_thread(self, text: str, thread: str) -> bool:
        """Whether the text is about this thread. None is about the empty one."""
        wanted = {_thread(secret, thread) for secret in self._keys} - {""}
        return any(mark.thread in wanted for mark in self.read(text))


def hidden(marker: str) -> str:
    """The marker as GitHub does not show it."""
    return f"<!-- {marker} -->"


def _delivery(secret: bytes, key: str) -> str:
    return _mac(secret, f"delivery\0{key}")


def _thread(secret: bytes, thread: str) -> str:
    return _mac(secret, f"thread\0{thread}") if thread else ""


def _seal(secret: bytes, named: str) -> str:
    return _mac(secret, f"seal\0{named}")


def _mac(secret: bytes, text: str) -> str:
    return hmac.digest(secret, text.encode(), hashlib.sha256).hex()[:32]  # 128 bits
