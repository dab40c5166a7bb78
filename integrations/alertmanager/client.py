"""The requests that we make of Alertmanager's API v2, one for each call and never repeated here."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from integrations.alertmanager.config import MARK, AlertmanagerConfig
from integrations.errors import ServiceFault
from integrations.http import Answer, Http, check

SERVICE = "Alertmanager"
TIMEOUT = timedelta(seconds=10)
ALERTS = "/api/v2/alerts"
STATUS = "/api/v2/status"
NOT_ITS_WAY = "it answers, but not as Alertmanager does: check url"


class Client:
    """One Alertmanager."""

    def __init__(self, config: AlertmanagerConfig, http: Http) -> None:
        self._url = config.url
        self._sent_by = config.sent_by
        self._http = http
        self._headers = {"Content-Type": "application/json"}
        if config.token is not None:
            self._headers["Authorization"] = f"Bearer {config.token.get_secret_value()}"
        elif config.username is not None and config.password is not None:
            login = f"{config.username}:{config.password.get_secret_value()}".encode()
            self._headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"

    async def post(self, content: bytes) -> None:
        """Hand alerts over. 200 says that they were stored in its memory."""
        await self._ask("POST", ALERTS, content)

    async def status(self) -> str:
        """Its version and how its cluster is, in words."""
        _, said = await self.told()
        try:
            return f"version {said['versionInfo']['version']}, cluster {said['cluster']['status']}"
        except (KeyError, TypeError):
            return NOT_ITS_WAY

    async def told(self) -> tuple[Mapping[str, str], Mapping[str, Any]]:
        """The headers and content of its status (openapi.yaml, alertmanagerStatus); empty where it is none."""
        answer = await self._ask("GET", STATUS)
        try:
            said = json.loads(answer.body)
        except ValueError:
            said = None
        return answer.headers, said if isinstance(said, dict) else {}

    async def is_firing(self, fingerprint: str) -> bool:
        """Whether it shows this alert of ours. It shows none whose end has passed (api.go, alertFilter)."""
        matcher = f"{MARK}={json.dumps(self._sent_by, ensure_ascii=False)}"
        answer = await self._ask("GET", f"{ALERTS}?{urlencode({'filter': matcher})}")
        try:
            return any(alert["fingerprint"] == fingerprint for alert in json.loads(answer.body))
        except (ValueError, KeyError, TypeError):
            raise ServiceFault(NOT_ITS_WAY) from None

    async def _ask(self, method: str, path: str, content: bytes | None = None) -> Answer:
        url = self._url + path
        return check(
            await self._http.request(method, url, headers=self._headers, content=content, timeout=TIMEOUT), SERVICE
        )
