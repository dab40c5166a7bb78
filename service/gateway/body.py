"""Reading what strangers send: bounded in size, time, depth and number of keys, and JSON to the letter.

`json.loads` alone would accept NaN, infinities, duplicate keys and lone surrogates, and fail with RecursionError on
deep nesting or ValueError on endless digits; here all of these are the sender's fault, with status 400.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from service.gateway.problems import Problem

BODY_SECONDS = 15.0
"""From the first look at a body to its end, however steadily it drips."""
MAX_DEPTH = 64
MAX_KEYS = 10_000


async def read(request: Request, limit: int) -> bytes:
    """The body's raw bytes. Raises Problem: 413 over the limit, 415 when compressed, 408 when it does not come."""
    encodings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    if any(encoding.strip() not in ("", "identity") for encoding in encodings):
        raise Problem(415, "send the body without Content-Encoding")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > limit:  # counted as it comes: Content-Length is only what the sender says
                    raise Problem(413, f"the body is larger than {limit:,} bytes")
    except TimeoutError:
        raise Problem(408, f"the body did not come within {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "the connection ended before the body did") from None
    return bytes(body)


async def read_json(request: Request, limit: int) -> Any:
    """The body as JSON. Raises Problem."""
    return parse(await read(request, limit))


def parse(raw: bytes) -> Any:
    """JSON as RFC 8259 and RFC 7493 (I-JSON) have it, integers of 64 bits at most. Raises Problem 400."""
    keys = 0

    def pairs(items: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal keys
        keys += len(items)
        if keys > MAX_KEYS:
            raise Problem(400, f"more than {MAX_KEYS:,} keys")
        found = dict(items)
        if len(found) != len(items):
            raise Problem(400, "a key occurs twice in one object")
        return found

    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=pairs,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_integer,
        )
        _inspect(value)
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    except UnicodeEncodeError:
        raise Problem(400, "half of a surrogate pair is not a character") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    return value


def _refuse(name: str) -> NoReturn:
    raise Problem(400, f"{name} is not JSON")


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise Problem(400, "a number is too large")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= (value := int(digits)) < 1 << 63:
        raise Problem(400, "an integer does not fit into 64 bits")
    return value


def _inspect(value: Any) -> None:
    """Raise Problem for nesting deeper than MAX_DEPTH, and UnicodeEncodeError for text that has no UTF-8."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                item.encode()
            elif isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
        depth += any(isinstance(item, dict | list) for item in level)
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = below


def _too_deep() -> Problem:
    return Problem(400, f"nested deeper than {MAX_DEPTH} levels")
