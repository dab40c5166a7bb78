"""Socket Mode: what Slack has to say comes over a connection that we open, where nothing can reach us.

It takes the same way as a webhook, without a signature: the connection is Slack's own. An envelope is acknowledged only
once its events are durable; what is not acknowledged, Slack delivers again (docs.slack.dev, Using Socket Mode). One
call serves one connection: when to open the next one, and after which pause, is for the caller.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import aiohttp
from structlog.typing import FilteringBoundLogger

from integrations.base import Accept
from integrations.errors import NotReady, Refusal, Unreachable
from integrations.slack.inbound import Inbox

HEARTBEAT_SECONDS = 10
"""Without an answer to a ping for this long, the connection is given up for dead."""
MAX_ENVELOPE_BYTES = 4 * 1024 * 1024


async def serve(address: str, inbox: Inbox, accept: Accept, log: FilteringBoundLogger) -> None:
    """Serve one connection until Slack ends it. Raises Unreachable or NotReady. The address is a secret."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_ENVELOPE_BYTES) as link,
            asyncio.TaskGroup() as envelopes,
        ):
            async for message in link:
                envelope = _parse(message)
                if envelope.get("type") == "disconnect":
                    return  # what is under way is finished first: the group waits for it
                if envelope.get("envelope_id"):
                    envelopes.create_task(_answer(link, envelope, inbox, accept, log))
    except aiohttp.WSServerHandshakeError as error:
        raise NotReady(f"Slack refused the socket with {error.status}") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unreachable(f"no socket to Slack ({type(error).__name__})") from None


async def _answer(
    link: aiohttp.ClientWebSocketResponse,
    envelope: dict[str, Any],
    inbox: Inbox,
    accept: Accept,
    log: FilteringBoundLogger,
) -> None:
    """Publish what an envelope says, then acknowledge it. One that fails is left to come again."""
    try:
        reply = await inbox.understand(envelope.get("payload") or {}, time.time())
        await accept(reply)
    except Refusal as error:
        log.warning("envelope refused", kind=envelope.get("type"), reason=error.reason)
        return
    except Exception as error:  # noqa: BLE001  # whatever it is: one envelope must not end the others
        log.warning("envelope not accepted", kind=envelope.get("type"), error=type(error).__name__)
        return
    said = {"envelope_id": envelope["envelope_id"]}
    if envelope.get("accepts_response_payload") and reply.body:
        said["payload"] = json.loads(reply.body)
    if not link.closed:
        await link.send_json(said)


def _parse(message: aiohttp.WSMessage) -> dict[str, Any]:
    """An envelope; empty for what is none."""
    if message.type is not aiohttp.WSMsgType.TEXT:
        return {}
    try:
        found = json.loads(message.data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
