"""The two requests that we make of Alertmanager's API v2, one for each call and never repeated here."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

from integrations.alertmanager.config import AlertmanagerConfig
from integrations.http import Answer, Http, check

SERVICE = "Alertmanager"
TIMEOUT = timedelta(seconds=10)
ALERTS = "/api/v2/alerts"
STATUS = "/api/v2/status"


class Client:
    """One Alertmanager."""

    def __init__(self, config: AlertmanagerConfig, http: Http) -> None:
        self._url = config.url
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
        answer = await self._ask("GET", STATUS)
        try:
            said = json.loads(answer.body)
            return f"version {said['versionInfo']['version']}, cluster {said['cluster']['status']}"
        except (ValueError, KeyError, TypeError):
            return "it answers, but not as Alertmanager does: check url"

    async def _ask(self, method: str, path: str, content: bytes | None = None) -> Answer:
        url = self._url + path
        return check(
            await self._http.request(method, url, headers=self._headers, content=content, timeout=TIMEOUT), SERVICE
        )
