"""Whether an endpoint can be sent to: what `eventbus integrations doctor` looks at. Sends no webhook."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from integrations import findings
from integrations.base import Finding
from integrations.errors import IntegrationError, Misconfigured
from integrations.webhook.book import Book
from integrations.webhook.client import GATEWAY_ERRORS, Client
from integrations.webhook.config import Endpoint
from integrations.webhook.standing import Standing


async def examine(endpoint: Endpoint, client: Client, book: Book) -> list[Finding]:
    """All findings about one endpoint."""
    standing = await book.standing(endpoint.name)
    return [*_standing(endpoint, standing), *await _way(endpoint, client), *_safety(endpoint)]


def _standing(endpoint: Endpoint, standing: Standing) -> Iterator[Finding]:
    about = f"endpoint {endpoint.name}"
    if standing.off is not None:
        what = f"switched off since {_time(standing.off.since)}: {standing.off.why}"
        yield Finding(about, "fail", what, f"once that is mended: eventbus webhooks enable {endpoint.name}")
    elif standing.failing is not None:
        what = f"every attempt since {_time(standing.failing.since)} failed: {standing.failing.attempts:,}"
        yield Finding(about, "warn", what, f"eventbus webhooks attempts {endpoint.name} --failed")
    else:
        yield Finding(about, "ok", "it is on")


async def _way(endpoint: Endpoint, client: Client) -> list[Finding]:
    """Whether its address may be connected to, something answers there, and what time it is there."""
    about = f"way to {endpoint.name}"
    try:
        answer = await client.look(endpoint)
    except Misconfigured as error:
        return [Finding(about, "fail", error.detail, "correct url; what is private on purpose goes into allow_private")]
    except IntegrationError as error:
        return [findings.failed(about, error, "correct url")]
    if answer.status in GATEWAY_ERRORS:
        fix = "ask its owner: a proxy answered, and nothing behind it"
        return [Finding(about, "fail", f"{endpoint.host} answered {answer.status}", fix)]
    return [Finding(about, "ok", f"{endpoint.host} answers"), findings.clock(answer.headers, endpoint.host)]


def _safety(endpoint: Endpoint) -> Iterator[Finding]:
    about = f"signature of {endpoint.name}"
    secrets = endpoint.secrets(time.time())
    if not secrets:
        fix = "set secret: whsec_ and the output of `openssl rand -base64 32`, and give it to the receiver"
        yield Finding(about, "warn", "nothing is signed: the receiver can't tell who sent it", fix)
    elif endpoint.format == "plain" and len(secrets[0]) < findings.SECRET_CHARACTERS:
        fix = "make one with `openssl rand -hex 32`, for secret and the receiver"
        yield Finding(about, "warn", f"the secret has {len(secrets[0])} characters: it can be guessed", fix)
    else:
        yield Finding(about, "ok", f"{endpoint.format}, {len(secrets)} secret{'s' if len(secrets) > 1 else ''}")
    if endpoint.host.startswith("http://") and not endpoint.allow_private:
        what = f"{endpoint.host} is not encrypted: everybody on the way can read events and headers"
        yield Finding(f"way to {endpoint.name}", "warn", what, "use https")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "minutes")
