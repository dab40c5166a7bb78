"""Who may call REST: holders of an API key. Signed webhooks and health need none.

A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`. All keys are compared, each in constant time, so nothing
is learnt from how long a refusal takes; a missing key and a wrong one get the same answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from pydantic import SecretStr
from starlette.requests import Request

from service.gateway.problems import Problem


def require_key(request: Request, keys: Sequence[SecretStr]) -> None:
    """Raises Problem 403 when no key is configured at all, 401 when the request has none of them."""
    if not keys:
        raise Problem(403, "no API key is configured: add gateway.api_keys to the settings")
    if not has_key(request, keys):
        raise Problem(
            401,
            "an API key is needed, as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            headers={"WWW-Authenticate": 'Bearer realm="eventbus"'},
        )


def has_key(request: Request, keys: Sequence[SecretStr]) -> bool:
    """True when the request holds one of the keys."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
    offered = given.encode("latin-1")  # the bytes as they came: Starlette reads headers as Latin-1
    return any([hmac.compare_digest(offered, key.get_secret_value().encode()) for key in keys])  # noqa: C419
