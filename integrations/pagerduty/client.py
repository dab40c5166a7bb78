"""The parts of PagerDuty's two APIs that we use: the Events API, by integration key, and the REST API, by token.

One request per call, never repeated here; what an answer other than success means stands beside each rule. Look-ups of
services and of who is on call are remembered for a short while: an incident storm must not ask the same thing again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from pydantic import JsonValue
from pydantic_core import to_json

from integrations.errors import AuthFailed, Misconfigured, NotReady, RateLimited, Rejected, ServiceFault
from integrations.http import MAX_WAIT_SECONDS, Answer, Http, check
from integrations.pagerduty.config import PagerDutyConfig
from integrations.pagerduty.render import ALERTS, Call

SERVICE = "PagerDuty"
TIMEOUT = timedelta(seconds=10)
EVENTS_WAIT = timedelta(seconds=30)
"""Events API Rate Limits, "possible workarounds": retries 30 seconds apart. Its 429 names no time of its own."""
SERVICE_SECONDS = 300.0
ON_CALL_SECONDS = 60.0
PAGE = 100
"""REST API, Pagination: the most that a page may hold."""

_ACCEPT = "application/vnd.pagerduty+json;version=2"
_JSON = {"Content-Type": "application/json"}
_ROUTING_KEY = re.compile(r"routing[ _]key", re.IGNORECASE)
_ALREADY_OPEN = re.compile(r"matching (?:dedup|incident)[ _]key already exists", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of PagerDuty, and the escalation policy that says who is told of its incidents."""

    id: str
    name: str
    escalation_policy_id: str


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is on call."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Opened:
    """An incident at PagerDuty. `repeated`: it was there already, found by its incident key."""

    id: str
    number: int
    url: str | None
    repeated: bool = False


class Client:
    """One account."""

    def __init__(self, config: PagerDutyConfig, http: Http) -> None:
        self._config = config
        self._http = http
        self._known: dict[tuple[str, str], tuple[float, Any]] = {}

    # -- Events API ------------------------------------------------------------------------------------------------

    async def send(self, call: Call) -> None:
        """Enqueue an alert or change event. 202 says that it was accepted, not what came of it."""
        url = self._config.events_url + call.path
        answer = await self._http.request("POST", url, headers=_JSON, content=call.content(), timeout=TIMEOUT)
        # The integration key is in the body, where the way out does not know it for a secret.
        ours = frozenset({call.key.get_secret_value()})
        answer = Answer(answer.status, answer.headers, answer.body, ours=ours)
        if answer.status == 400 and _ROUTING_KEY.search(answer.text):
            raise AuthFailed(
                f"{SERVICE} answered 400: {answer.excerpt()}; copy the Integration Key of the service's Events API v2 "
                "integration into routing_key, and check region"
            )
        if answer.status == 429:
            raise RateLimited(_said(answer), retry_after=answer.retry_after() or EVENTS_WAIT)
        check(answer, SERVICE)

    async def reach(self) -> Mapping[str, str]:
        """Ask for the Events API's address without sending an event; the answer's headers. Raises where nobody serves
        it.

        It has no health endpoint: that it answers at all, be it with 405, is what can be known.
        """
        answer = await self._http.request("HEAD", self._config.events_url + ALERTS, timeout=TIMEOUT)
        if answer.status >= 500:
            check(answer, "PagerDuty's Events API")
        return answer.headers

    # -- REST API --------------------------------------------------------------------------------------------------

    async def abilities(self) -> int:
        """How many abilities the account has: the one question that every kind of token may ask."""
        answer = await self._ask("GET", "/abilities")
        return len(_list(answer, "abilities"))

    async def find_service(self, name: str) -> Service:
        """The service of this name. Raises Rejected where there is none."""

        async def ask() -> Service:
            answer = await self._ask("GET", "/services?" + urlencode({"name": name, "limit": PAGE}))
            for row in _list(answer, "services"):
                if row.get("name") == name:
                    return _service(row)
            raise Rejected(
                f"{SERVICE} has no service {name[:200]!r} that our token may see: check its name, or use its id"
            )

        return await self._remembered(("service", name), SERVICE_SECONDS, ask)

    async def get_service(self, service_id: str) -> Service:
        """The service of this id."""

        async def ask() -> Service:
            answer = await self._ask("GET", f"/services/{quote(service_id, safe='')}")
            return _service(_object(answer, "service"))

        return await self._remembered(("service_id", service_id), SERVICE_SECONDS, ask)

    async def on_call(self, escalation_policy_id: str) -> User | None:
        """Who is on call now at the lowest level of a policy; None where nobody is."""

        async def ask() -> User | None:
            query = urlencode({"escalation_policy_ids[]": escalation_policy_id, "limit": PAGE})
            rows = _list(await self._ask("GET", f"/oncalls?{query}"), "oncalls")
            for row in sorted(rows, key=lambda row: row.get("escalation_level") or 0):
                user = row.get("user") or {}
                if user.get("id"):
                    return User(str(user["id"]), str(user.get("summary") or user["id"]))
            return None

        return await self._remembered(("on_call", escalation_policy_id), ON_CALL_SECONDS, ask)

    async def is_user(self, email: str) -> bool:
        """Whether a user has this address. `query` (OpenAPI, GET /users) is a search: what it finds is compared."""
        rows = _list(await self._ask("GET", f"/users?{urlencode({'query': email, 'limit': PAGE})}"), "users")
        return any(str(row.get("email")).lower() == email.lower() for row in rows)

    async def is_open(self, key: str) -> bool:
        """Whether an incident is open that has, or whose alerts have, this key (OpenAPI, GET /incidents)."""
        query = [("incident_key", key), ("statuses[]", "triggered"), ("statuses[]", "acknowledged")]
        return bool(_list(await self._ask("GET", f"/incidents?{urlencode(query)}"), "incidents"))

    async def create_incident(self, body: Mapping[str, JsonValue]) -> Opened:
        """Make an incident, or find the open one that has its key already."""
        answer = await self._request("POST", "/incidents", body)
        if answer.status == 400 and _ALREADY_OPEN.search(answer.text):
            return await self._open_incident(body)
        return _opened(_object(_checked(answer), "incident"))

    async def _open_incident(self, body: Mapping[str, Any]) -> Opened:
        wanted = body["incident"]
        query = [
            ("incident_key", wanted["incident_key"]),
            ("service_ids[]", wanted["service"]["id"]),
            ("statuses[]", "triggered"),
            ("statuses[]", "acknowledged"),
        ]
        rows = _list(await self._ask("GET", f"/incidents?{urlencode(query)}"), "incidents")
        if not rows:
            raise NotReady(f"{SERVICE} refused the incident for one that was open and is not any more")
        return _opened(rows[0], repeated=True)

    async def _ask(self, method: str, path: str) -> Answer:
        return _checked(await self._request(method, path))

    async def _request(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None) -> Answer:
        if self._config.api_token is None:
            raise Misconfigured("api_token is not set: make one under Integrations > API Access Keys")
        # REST API, "Authentication": this format "must be followed precisely"; `From` on what makes incidents.
        headers = {"Authorization": f"Token token={self._config.api_token.get_secret_value()}", "Accept": _ACCEPT}
        content = None
        if body is not None:
            headers |= _JSON | {"From": self._config.from_email or ""}
            content = to_json(body)
        url = self._config.api_url + path
        return await self._http.request(method, url, headers=headers, content=content, timeout=TIMEOUT)

    async def _remembered(self, name: tuple[str, str], seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        until, value = self._known.get(name, (0.0, None))
        if until > time.monotonic():
            found: T = value
            return found
        found = await ask()
        self._known = {key: row for key, row in self._known.items() if row[0] > time.monotonic()}
        self._known[name] = (time.monotonic() + seconds, found)
        return found


def _checked(answer: Answer) -> Answer:
    if answer.status == 429:
        # REST API Rate Limits: `ratelimit-reset`, the number of seconds until the limit is reset.
        reset = answer.headers.get("ratelimit-reset", "")
        seconds = min(int(reset[:10]), MAX_WAIT_SECONDS) if reset.isascii() and reset.isdigit() else None
        wait = answer.retry_after() or (None if seconds is None else timedelta(seconds=seconds))
        raise RateLimited(_said(answer), retry_after=wait)
    return check(answer, SERVICE)


def _said(answer: Answer) -> str:
    return f"{SERVICE} answered {answer.status}" + (f": {answer.excerpt()}" if answer.body else "")


def _object(answer: Answer, name: str) -> dict[str, Any]:
    found = _part(answer, name)
    if not isinstance(found, dict):
        raise _unreadable(answer, name)
    return found


def _list(answer: Answer, name: str) -> list[Any]:
    found = _part(answer, name)
    if not isinstance(found, list):
        raise _unreadable(answer, name)
    return found


def _part(answer: Answer, name: str) -> Any:
    try:
        return json.loads(answer.body)[name]
    except (ValueError, KeyError, TypeError):
        return None


def _unreadable(answer: Answer, name: str) -> ServiceFault:
    """A success that is not PagerDuty's: something between us answered. What was asked for may have been done."""
    return ServiceFault(f"{SERVICE} answered {answer.status} without {name}: is base_url right?")


def _service(row: Mapping[str, Any]) -> Service:
    policy = row.get("escalation_policy") or {}
    return Service(str(row.get("id")), str(row.get("name") or row.get("summary")), str(policy.get("id") or ""))


def _opened(row: Mapping[str, Any], *, repeated: bool = False) -> Opened:
    return Opened(str(row.get("id")), int(row.get("incident_number") or 0), row.get("html_url"), repeated)
