"""Reading what strangers send: bounded in size, time, depth and number of keys, and JSON to the letter.

`json.loads` alone would accept NaN, duplicate keys and lone surrogates, and fail with RecursionError on deep nesting or
ValueError on endless digits; here all of these are the sender's fault, with status 400.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from service.gateway.problems import Problem

BODY_SECONDS = 15.0
MAX_DEPTH = 64
MAX_KEYS = 10_000
MAX_INTEGER = 2**63


async def read(request: Request, limit: int) -> bytes:
    """The body's raw bytes. Raises Problem: 413 over the limit, 415 when compressed, 408 when it does not come."""
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Problem(415, "send the body without Content-Encoding")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > limit:  # counted as it comes: Content-Length is only what the sender says
                    raise Problem(413, f"the body is larger than {limit:,} bytes", headers={"Connection": "close"})
    except TimeoutError:
        raise Problem(
            408, f"the body did not come within {BODY_SECONDS:g} s", headers={"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise Problem(400, "the connection ended before the body did") from None
    return bytes(body)


async def read_json(request: Request, limit: int) -> Any:
    """The body as JSON. Raises Problem."""
    return parse(await read(request, limit))


def parse(raw: bytes) -> Any:
    """JSON as RFC 8259 and RFC 7493 (I-JSON) have it. Raises Problem 400."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    keys = 0

    def no_constant(name: str) -> NoReturn:
        raise Problem(400, f"{name} is not JSON")

    def integer(digits: str) -> int:
        if len(digits) > 20 or abs(value := int(digits)) > MAX_INTEGER:
            raise Problem(400, "an integer does not fit into 64 bits")
        return value

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
        value = json.loads(text, parse_constant=no_constant, parse_int=integer, object_pairs_hook=pairs)
        text_again = json.dumps(value, ensure_ascii=False).encode()  # lone surrogates fail here
    except RecursionError:
        raise Problem(400, f"nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeEncodeError:
        raise Problem(400, "half of a surrogate pair is not a character") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    del text_again
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise Problem(400, f"nested deeper than {MAX_DEPTH} levels")
