"""One request to an endpoint, and what its answer means.

Never follows a redirect: the signature and the headers are for the configured receiver only. Never connects to an
address that is not public, unless the endpoint's settings except it: where a name leads, its owner decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from integrations.errors import IntegrationError, Rejected
from integrations.http import Answer, Http, check
from integrations.webhook.config import Endpoint
from integrations.webhook.render import Request

MAX_ANSWER_BYTES = 64 * 1024
"""Only the start of an answer is ever shown; the connection of a longer one is closed."""
MARGIN = timedelta(seconds=0.5)
"""A request ends so much before the call it belongs to, which else would be cut off without knowing what happened."""
HEALTH_TIMEOUT = timedelta(seconds=4)
GATEWAY_ERRORS = (502, 503, 504)
"""RFC 9110, section 15.6: a proxy answered, or the server itself says that it serves nobody now."""
WISH = "webhook-delivery"
"""A header of the answer by which a receiver has itself disabled (`disable`) or a message given up (`abort-message`):
Svix docs, "Receiver-driven control"."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a request.

    at      when it began, Unix seconds; it took `ms`
    status  of the answer; None: there was none
    said    the start of the answer, or what went wrong
    wish    why the receiver wants no more webhooks; empty: it did not say so
    error   what the answer means; None: delivered
    """

    at: float
    ms: float
    status: int | None
    said: str
    wish: str
    error: IntegrationError | None


class Client:
    """The connections of one account. What one endpoint is connected to, one with other exceptions must not reuse."""

    def __init__(self, http: Http, endpoints: Sequence[Endpoint]) -> None:
        self._longest = max(http.limit - MARGIN, http.limit / 2)
        self._ways = {allow: http.guarded(allow) for allow in {endpoint.allow_private for endpoint in endpoints}}

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(way.close() for way in self._ways.values()))

    async def post(self, request: Request, endpoint: Endpoint) -> Sent:
        """Send a webhook. Every error of the exchange is in the result."""
        at, began, answer, error = time.time(), time.perf_counter(), None, None
        try:
            answer = await self._ways[endpoint.allow_private].request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                timeout=min(timedelta(seconds=endpoint.timeout), self._longest),
                max_answer=MAX_ANSWER_BYTES,
            )
            _judge(answer, endpoint)
        except IntegrationError as caught:
            error = caught
        ms = round((time.perf_counter() - began) * 1000, 1)
        if answer is None:
            return Sent(at, ms, None, error.detail if error is not None else "", "", error)
        return Sent(at, ms, answer.status, answer.excerpt(), _wish(answer), error)

    async def look(self, endpoint: Endpoint) -> Answer:
        """Ask for headers only. Raises where nothing answers, or nothing may be connected to."""
        way, url = self._ways[endpoint.allow_private], endpoint.url.get_secret_value()
        return await way.request("HEAD", url, timeout=HEALTH_TIMEOUT, max_answer=MAX_ANSWER_BYTES)

    async def reach(self, endpoint: Endpoint) -> str:
        """What is wrong with the way there; empty for any answer but a gateway's error."""
        try:
            answer = await self.look(endpoint)
        except IntegrationError as error:
            return error.detail
        return f"{endpoint.host} answered {answer.status}" if answer.status in GATEWAY_ERRORS else ""


def _judge(answer: Answer, endpoint: Endpoint) -> None:
    """Raise what an answer other than 2xx means (Standard Webhooks, "Delivery success and failure")."""
    if 300 <= answer.status < 400:
        raise Rejected(
            f"{endpoint.host} answered {answer.status}: redirects are not followed; "
            f"give endpoint {endpoint.name} its final address"
        )
    if answer.status >= 400 and answer.headers.get(WISH, "").strip().lower() == "abort-message":
        raise Rejected(f"{endpoint.host} answered {answer.status} and wants no more attempts of this message")
    check(answer, endpoint.host)


def _wish(answer: Answer) -> str:
    if answer.status == 410:
        return "the receiver answered 410: it wants no more webhooks"
    if answer.headers.get(WISH, "").strip().lower() == "disable":
        return f"the receiver answered {answer.status} with {WISH}: disable"
    return ""
