"""The requests that we make of Datadog's API, one for each call and never repeated here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from integrations.datadog.config import DatadogConfig
from integrations.datadog.render import Request
from integrations.errors import AuthFailed, RateLimited
from integrations.http import MAX_WAIT_SECONDS, Answer, Http, check

SERVICE = "Datadog"
TIMEOUT = timedelta(seconds=10)
VALIDATE = "/api/v1/validate"


class Client:
    """One account."""

    def __init__(self, config: DatadogConfig, http: Http) -> None:
        assert config.api_key is not None, "the settings of transport: api have a key"
        self._url = config.url
        self._http = http
        self._login = {"DD-API-KEY": config.api_key.get_secret_value()}

    async def post(self, request: Request) -> Mapping[str, Any]:
        """Hand metrics or an event over; what was answered. 202 says that it was accepted."""
        answer = await self._ask("POST", request.path, request.content)
        try:
            said = json.loads(answer.body)
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}

    async def validate(self) -> Answer:
        """API v1, "Validate API key": 200 for a key that is good, else 403."""
        return await self._ask("GET", VALIDATE)

    async def _ask(self, method: str, path: str, content: bytes | None = None) -> Answer:
        headers = self._login | ({"Content-Type": "application/json"} if content is not None else {})
        url = self._url + path
        answer = await self._http.request(method, url, headers=headers, content=content, timeout=TIMEOUT)
        try:
            return check(answer, SERVICE)
        except RateLimited as error:
            raise RateLimited(error.detail, retry_after=error.retry_after or _reset(answer)) from None
        except AuthFailed as error:
            raise AuthFailed(f"{error.detail}; api_key has to be an API key of this site ({self._url})") from None


def _reset(answer: Answer) -> timedelta | None:
    """API Reference, "Rate Limits": X-RateLimit-Reset is the time in seconds until next reset."""
    given = answer.headers.get("x-ratelimit-reset", "").strip()
    if not (given.isascii() and given.isdigit()):
        return None
    return timedelta(seconds=min(int(given[:10]), MAX_WAIT_SECONDS))
