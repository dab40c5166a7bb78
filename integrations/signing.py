"""Signatures, in and out: Standard Webhooks, GitHub's, Slack's, and the plain `sha256=` over a body.

All of them are made over the raw bytes, with HMAC-SHA256 or, in Standard Webhooks, with ed25519 as well. Verifying
compares bytes in constant time, tries every secret that is valid at the moment (rotation), and refuses with one and the
same text whatever is wrong.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import SecretStr

from integrations.errors import Misconfigured, Unauthorized

TOLERANCE_SECONDS = 300
"""How far a signed time stamp may be from now: Slack's rule (docs: Verifying requests from Slack) and the default of
the Standard Webhooks libraries."""

_STANDARD_PREFIX = "whsec_"
_PRIVATE_PREFIX = "whsk_"
_PUBLIC_PREFIX = "whpk_"


def _hmac(secret: bytes, message: bytes) -> bytes:
    if not secret:
        raise Misconfigured("a signing secret is empty: anybody could sign with it; set one")
    return hmac.new(secret, message, hashlib.sha256).digest()


def standard_secret(secret: SecretStr) -> bytes:
    """The key inside `whsec_<base64>` (Standard Webhooks, "Symmetric signatures": 24 to 64 bytes).

    Raises Misconfigured when it is not one.
    """
    text = secret.get_secret_value().removeprefix(_STANDARD_PREFIX)
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or its parent for text that is not ASCII
        raise Misconfigured("a Standard Webhooks secret is whsec_ and base64 of 24 to 64 random bytes") from None
    if not 24 <= len(key) <= 64:
        raise Misconfigured(f"a Standard Webhooks secret has 24 to 64 bytes, this one {len(key)}")
    return key


def standard_key(secret: SecretStr) -> Ed25519PrivateKey:
    """The key inside `whsk_<base64>` (Standard Webhooks, "Asymmetric signatures"): its 32 bytes, with or without the
    32 of its public half behind them, as RFC 8032 and libsodium write it.

    Raises Misconfigured when it is not one.
    """
    text = secret.get_secret_value().removeprefix(_PRIVATE_PREFIX)
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) not in (32, 64):
        raise Misconfigured("a Standard Webhooks signing key is whsk_ and base64 of an ed25519 key of 32 or 64 bytes")
    key = Ed25519PrivateKey.from_private_bytes(raw[:32])
    if raw[32:] not in (b"", key.public_key().public_bytes_raw()):
        raise Misconfigured("the two halves of the whsk_ signing key do not belong together: copy the whole key")
    return key


def public_key(secret: SecretStr) -> str | None:
    """The `whpk_` that a receiver verifies with; None for a secret that both sides share."""
    if not _is_private(secret):
        return None
    return _PUBLIC_PREFIX + base64.b64encode(standard_key(secret).public_key().public_bytes_raw()).decode()


def check_standard(secret: SecretStr) -> None:
    """Raises Misconfigured for what can't sign as Standard Webhooks asks."""
    if _is_private(secret):
        standard_key(secret)
    else:
        standard_secret(secret)


def sign_standard(message_id: str, timestamp: int, body: bytes, secrets: Iterable[SecretStr]) -> str:
    """The `webhook-signature` header over `id.timestamp.body`: for each secret one `v1,<base64>`, for each ed25519 key
    one `v1a,<base64>`."""
    message = _standard_message(message_id, timestamp, body)
    return " ".join(_signed(message, secret) for secret in secrets)


def _standard_message(message_id: str, timestamp: int, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode("utf-8", "replace") + body


def _signed(message: bytes, secret: SecretStr) -> str:
    if _is_private(secret):
        return "v1a," + base64.b64encode(standard_key(secret).sign(message)).decode()
    return "v1," + base64.b64encode(_hmac(standard_secret(secret), message)).decode()


def _is_private(secret: SecretStr) -> bool:
    return secret.get_secret_value().startswith(_PRIVATE_PREFIX)


def sign_plain(body: bytes, secret: SecretStr) -> str:
    """`sha256=<hex>` over the body: the `X-Signature` of plain webhooks and GitHub's `X-Hub-Signature-256`."""
    return "sha256=" + _hmac(secret.get_secret_value().encode(), body).hex()


def sign_slack(timestamp: int, body: bytes, secret: SecretStr) -> str:
    """Slack's `X-Slack-Signature`: `v0=<hex>` over `v0:timestamp:body`."""
    return "v0=" + _hmac(secret.get_secret_value().encode(), f"v0:{timestamp}:".encode() + body).hex()


def verify_plain(body: bytes, signature: str | None, secrets: Iterable[SecretStr]) -> None:
    """Check GitHub's `X-Hub-Signature-256` or a plain `X-Signature`. Raises Unauthorized."""
    _require_match(signature, [sign_plain(body, secret) for secret in secrets])


def verify_slack(
    body: bytes, timestamp: str | None, signature: str | None, secrets: Iterable[SecretStr], *, now: float
) -> None:
    """Check Slack's signature and its age. `now` in Unix seconds. Raises Unauthorized."""
    stamp = _fresh(timestamp, now)
    _require_match(signature, [sign_slack(stamp, body, secret) for secret in secrets])


def verify_standard(
    message_id: str | None,
    timestamp: str | None,
    body: bytes,
    signatures: str | None,
    secrets: Iterable[SecretStr],
    *,
    now: float,
) -> None:
    """Check a Standard Webhooks request: any signature of the list may match any secret, `whpk_` keys among them.

    Raises Unauthorized.
    """
    stamp = _fresh(timestamp, now)
    if not message_id or not signatures:
        raise Unauthorized("signature mismatch", reason="webhook-id or webhook-signature is missing")
    message, every = _standard_message(message_id, stamp, body), list(secrets)
    keys = [key for key in map(_trusted_key, every) if key is not None]
    expected = [_signed(message, secret) for secret in every if _trusted_key(secret) is None]
    for signature in signatures.split(" ")[:20]:
        if _matches(signature, expected) or any(_is_signed_by(key, signature, message) for key in keys):
            return
    raise Unauthorized("signature mismatch", reason="no signature of the list matches a secret of ours")


def _trusted_key(secret: SecretStr) -> Ed25519PublicKey | None:
    """The key to verify with, where the secret is one: `whpk_`, or the `whsk_` it belongs to."""
    text = secret.get_secret_value()
    if _is_private(secret):
        return standard_key(secret).public_key()
    if not text.startswith(_PUBLIC_PREFIX):
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text.removeprefix(_PUBLIC_PREFIX), validate=True))
    except ValueError:
        raise Misconfigured("a Standard Webhooks public key is whpk_ and base64 of 32 bytes") from None


def _is_signed_by(key: Ed25519PublicKey, signature: str, message: bytes) -> bool:
    version, _, encoded = signature.partition(",")
    try:
        key.verify(base64.b64decode(encoded, validate=True), message)
    except (ValueError, InvalidSignature):
        return False
    return version == "v1a"


def _fresh(timestamp: str | None, now: float) -> int:
    if timestamp is None or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise Unauthorized("signature mismatch", reason="the time stamp is missing or not a number")
    stamp = int(timestamp)
    if abs(now - stamp) > TOLERANCE_SECONDS:
        raise Unauthorized("signature mismatch", reason=f"the time stamp is {now - stamp:+.0f} s away from our clock")
    return stamp


def _require_match(signature: str | None, expected: list[str]) -> None:
    if not signature:
        raise Unauthorized("signature mismatch", reason="the signature header is missing")
    if not _matches(signature, expected):
        raise Unauthorized("signature mismatch", reason=f"the signature matches none of {len(expected)} secrets")


def _matches(signature: str, expected: list[str]) -> bool:
    # compare_digest on str raises for non-ASCII input; on bytes it does not. All are compared: no early exit to time.
    given = signature.encode("utf-8", "replace")
    return any([hmac.compare_digest(given, candidate.encode()) for candidate in expected])  # noqa: C419
