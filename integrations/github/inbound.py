"""GitHub's webhooks, to events: verify the raw bytes, parse strictly, take the digest.

GitHub sends no time stamp and never sends a webhook again by itself; a redelivery has the same `X-GitHub-Delivery`
(docs.github.com/webhooks, "Best practices", "Handling failed deliveries"). Events are named by it and remembered for
a week, over twice the three days in which a redelivery can be asked for. What we caused ourselves is told apart, so
that nobody answers his own words.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from pydantic import JsonValue

from eventbus.catalog import catalog
from eventbus.errors import InvalidEvent, Unavailable
from eventbus.event import Event
from eventbus.topics import GitHubWebhook
from integrations.base import InboundReply, InboundRequest, Store
from integrations.errors import Malformed, TooLarge, Unauthorized
from integrations.github.config import GitHubConfig
from integrations.github.marker import Mark, Marker
from integrations.github.redelivery import Roll
from integrations.signing import verify_plain

MAX_BYTES = 25 * 1024 * 1024
"""docs.github.com/webhooks, "Webhook events and payloads": payloads are capped at 25 MB."""
MAX_INLINE_BYTES = 100 * 1024
MAX_DEPTH = 64
REMEMBER = timedelta(days=7)

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_EVENT = re.compile(r"[a-z0-9_]{1,100}")
_THINGS = ("pull_request", "issue", "discussion", "release", "check_run", "workflow_run")
_WROTE = ("created", "opened", "edited")
"""Actions of who wrote a text. Of other actions on it, such as closing, its author is not the cause."""
OURSELVES = "github"
"""Stands for the event that something of ours followed from, where that is not known."""
_JSON = {"Content-Type": "application/json"}


class Inbox:
    """The inbound side of one account."""

    def __init__(self, config: GitHubConfig, store: Store) -> None:
        self._secrets = config.webhook_secrets
        self._web = config.web
        self._is_app = config.app_id is not None
        self._marker = Marker(config)
        self._store = store
        self._roll = Roll(store) if self._is_app or config.hooks else None

    async def receive(self, request: InboundRequest) -> InboundReply:
        """Turn a webhook into its event. Raises a Refusal."""
        if len(request.body) > MAX_BYTES:
            raise TooLarge("the body is larger than GitHub sends", reason=f"{len(request.body):,} bytes")
        self._verify(request)
        name = _header(request, "x-github-event", _EVENT)
        delivery = _header(request, "x-github-delivery", _ID)
        raw = _json_of(request)
        body = await asyncio.to_thread(parse, raw) if len(raw) > MAX_INLINE_BYTES else parse(raw)
        if self._roll is not None:
            with suppress(Unavailable):  # without it the webhook is asked for once more, which does no harm
                await self._roll.note(delivery, request.received_at)
        if name == "ping":
            # Sent when a webhook is made; nothing has happened.
            return InboundReply(status=200, headers=_JSON, body=_dump({"ok": True, "event": "ping"}))
        cause = await self._cause(body)
        payload = digest(name, delivery, body).model_copy(update={"ours": cause is not None})
        if len(raw) <= MAX_INLINE_BYTES:
            payload = payload.model_copy(update={"body": body})
        else:
            payload = payload.model_copy(update={"body_key": await self._keep(delivery, raw)})
        return self._reply(payload, body, request.received_at, cause)

    def _verify(self, request: InboundRequest) -> None:
        if not self._secrets:
            raise Unauthorized(
                "signature mismatch", reason="webhook_secret is not set, so nothing can be verified: set it"
            )
        verify_plain(request.body, request.headers.get("x-hub-signature-256"), self._secrets)

    async def _keep(self, delivery: str, raw: bytes) -> str:
        key = f"webhook:{delivery}"
        await self._store.put(key, raw.decode(), lifetime=REMEMBER)
        return key

    async def _cause(self, body: dict[str, Any]) -> str | None:
        """The id of the event that made us do it, OURSELVES where it is not known, None where it was not us.

        All that the App's own account does is ours. A token may be a person's, who does other things too: there it
        takes a text with our marker, written by who sent it. Who we are is known from what we made.
        """
        mark = _written_mark(self._marker, body)
        acts_alone = self._is_app and _text(body, "sender", "type") == "Bot"
        if mark is None and not acts_alone:
            return None
        login = await self._known_login()
        if login is None and mark is None:
            return None
        if isinstance(login, str) and login.lower() != (_text(body, "sender", "login") or "").lower():
            return None
        return (mark and mark.cause) or OURSELVES

    async def _known_login(self) -> JsonValue:
        with suppress(Unavailable):
            return await self._store.get("login")
        return None

    def _reply(
        self, payload: GitHubWebhook, body: dict[str, Any], received_at: float, cause: str | None
    ) -> InboundReply:
        event = self._event(payload, body, received_at, cause)
        return InboundReply(
            events=(event,),
            status=202,
            headers=_JSON,
            body=_dump({"ok": True, "topic": event.topic}),
            remember=REMEMBER,
        )

    def _event(self, payload: GitHubWebhook, body: dict[str, Any], received_at: float, cause: str | None) -> Event[Any]:
        topic = topic_of(payload)
        subject = payload.repository if payload.number is None else f"{payload.repository}#{payload.number}"
        try:
            return catalog.event(
                topic,
                payload,
                source=_text(body, "repository", "html_url") or self._web,
                subject=subject if payload.repository else None,
                time=datetime.fromtimestamp(received_at, UTC),
                causation_id=cause,
                idempotency_key=f"github:{payload.delivery}:{topic}",
            )
        except InvalidEvent as error:
            raise Malformed("not a webhook of GitHub's", reason=str(error)) from None


def _written_mark(marker: Marker, body: dict[str, Any]) -> Mark | None:
    """The marker of the text that this webhook says its sender wrote."""
    check = body.get("check_run")
    if isinstance(check, dict):
        return next(marker.read(_text(check, "external_id") or ""), None)
    thing: dict[str, Any] = next((body[part] for part in ("comment", *_THINGS) if isinstance(body.get(part), dict)), {})
    author, text = _text(thing, "user", "login"), thing.get("body")
    if body.get("action") not in _WROTE or author is None or author != _text(body, "sender", "login"):
        return None
    return next(marker.read(text), None) if isinstance(text, str) else None


def topic_of(payload: GitHubWebhook) -> str:
    """`github.<event>.<action>`, or `github.<event>`. An action may be anybody's text (repository_dispatch)."""
    action = re.sub(r"[^a-z0-9_-]+", "_", (payload.action or "").lower())[:80].strip("_")
    return f"github.{payload.event}.{action}" if action else f"github.{payload.event}"


def digest(name: str, delivery: str, body: dict[str, Any]) -> GitHubWebhook:
    """The fields most handlers want. What a payload lacks, or has in another shape, stays empty."""
    thing: dict[str, Any] = next((body[part] for part in _THINGS if isinstance(body.get(part), dict)), {})
    number = thing.get("number", body.get("number"))
    return GitHubWebhook(
        delivery=delivery,
        event=name,
        action=_text(body, "action"),
        repository=_text(body, "repository", "full_name"),
        sender=_text(body, "sender", "login"),
        number=number if isinstance(number, int) and not isinstance(number, bool) else None,
        url=_text(thing, "html_url") or _text(body, "compare"),
        title=_text(thing, "title") or _text(thing, "name"),
        ref=_text(body, "ref"),
    )


def parse(raw: bytes) -> dict[str, Any]:
    """A JSON object as every reader of the bus can take it. Raises Malformed.

    Python's parser alone lets through NaN, infinities, lone surrogates, doubled names and numbers of any length.
    """
    try:
        value = json.loads(
            raw.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_int=_integer,
            parse_float=_finite,
        )
        _inspect(value)
    except (ValueError, RecursionError) as error:
        # A decoder's text may quote the body; its class does not.
        raise Malformed("not a JSON object", reason=f"{type(error).__name__} in the body") from None
    if not isinstance(value, dict):
        raise Malformed("not a JSON object", reason=f"the body is a {type(value).__name__}")
    return value


def _json_of(request: InboundRequest) -> bytes:
    """The JSON: the body itself, or the field `payload` of a form (docs.github.com/webhooks, "Content type")."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return request.body
    if kind != "application/x-www-form-urlencoded":
        raise Malformed("the content type must be application/json or a form", reason=f"content type {kind[:80]!r}")
    try:
        form = parse_qs(request.body.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=10)
    except ValueError as error:
        raise Malformed("not a form", reason=f"{type(error).__name__} in the form") from None
    if len(form.get("payload", ())) != 1:
        raise Malformed("the form has no field payload")
    return form["payload"][0].encode()


def _header(request: InboundRequest, name: str, shape: re.Pattern[str]) -> str:
    value = request.headers.get(name, "")
    if not shape.fullmatch(value):
        raise Malformed(f"the header {name} is missing or not as GitHub sends it", reason=f"{name}: {value[:80]!r}")
    return value


def _text(body: Any, *path: str) -> str | None:
    for part in path:
        body = body.get(part) if isinstance(body, dict) else None
    return body[:500] if isinstance(body, str) and body else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= (value := int(digits)) < 1 << 63:
        raise ValueError("an integer needs more than 64 bits")
    return value


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError("a number is too large")
    return value


def _inspect(value: Any) -> None:
    """Raise ValueError for nesting deeper than MAX_DEPTH and for text that has no UTF-8."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                item.encode()
            elif isinstance(item, dict):
                below.extend(item)
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        level = below


def _dump(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
