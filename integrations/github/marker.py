"""The hidden signed marker: how we recognise what we made, when the answer that told us was lost.

It is an HTML comment, which GitHub stores and does not show. Anybody may read and quote it, so finding one proves
nothing by itself: the client also asks that our own account wrote it. The signature keeps others from preparing text
that holds the marker of a delivery still to come.
"""

from __future__ import annotations

import hashlib
import hmac

from integrations.github.config import GitHubConfig

_PURPOSE = b"eventbus marker v1"


class Marker:
    """Makes the markers of one account.

    The key is `marker_secret`, else `webhook_secret`; neither changes when a token is replaced. An account that has
    neither signs with its address and app id, which are no secret: there only the author of a text is proof.
    """

    def __init__(self, config: GitHubConfig) -> None:
        given = [s for s in (config.marker_secret, *config.webhook_secrets) if s is not None]
        public = f"{config.base_url} {config.app_id or ''}"
        secrets = [secret.get_secret_value() for secret in given] or [public]
        # Derived, so that no value is an HMAC key for two purposes.
        self._keys = [hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256) for secret in secrets]

    def sign(self, key: str) -> str:
        """The marker of the delivery with this idempotency key."""
        return _marker(self._keys[0], key)

    def accepted(self, key: str) -> tuple[str, ...]:
        """Every marker that this delivery may bear: also those made before a secret was replaced."""
        return tuple(_marker(secret, key) for secret in self._keys)


def _marker(secret: bytes, key: str) -> str:
    mac = hmac.digest(secret, key.encode(), hashlib.sha256).hex()[:32]  # 128 bits
    return f"<!-- eventbus:v1:{mac} -->"
