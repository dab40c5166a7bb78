"""Text of events, made fit to leave: no credentials, no control characters, no more than its limit. Pure.

Errors of database drivers quote the address they could not connect to, password and all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import JsonValue

HIDDEN = "[hidden]"

MAX_READ = 10_000
"""Characters of a text that are looked at; more of it is never shown."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters, lone surrogates, and the signs that reverse the order of what is read."""
_DATABASES = r"(?:postgres(?:ql)?|mysql|mariadb|redis|rediss|amqps?|mongodb|mssql|oracle|cockroachdb)(?:\+\w+)?"
# Up to the last @: a password that was not percent-encoded may hold one.
_DATABASE_LOGIN = re.compile(rf"\b({_DATABASES}://)\S*@", re.IGNORECASE)
_LOGIN = re.compile(r"\b([a-z][a-z0-9+.-]{1,30}://)[^\s/@]*@", re.IGNORECASE)
_SENSITIVE = r"(?:\w*(?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)s?)"
_ASSIGNED = re.compile(
    rf"""\b({_SENSITIVE}["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&"']+)""",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(r"\b(authorization[\"']?\s*[=:]\s*)(?:(?:bearer|basic|token)\s+)?\S+", re.IGNORECASE)
_SENSITIVE_NAME = re.compile(rf"{_SENSITIVE}|authorization|cookie", re.IGNORECASE)
_DATABASE_NAME = re.compile(r"(?:\w*_)?(?:dsn|(?:database|db)(?:_?ur[il])?|connection_string)", re.IGNORECASE)


def cleaned(text: str) -> str:
    """On one line, without what is not printed."""
    return " ".join(_CONTROL.sub(" ", text).split())


def redacted(text: str) -> str:
    """Without credentials: those of addresses are left out, values of what is called a secret are hidden."""
    text = _LOGIN.sub(r"\1", _DATABASE_LOGIN.sub(r"\1", text[:MAX_READ]))
    return _ASSIGNED.sub(rf"\1{HIDDEN}", _AUTHORIZATION.sub(rf"\1{HIDDEN}", text))


def cut(text: str, room: int) -> str:
    """At most `room` characters, with a note of how many are missing."""
    if len(text) <= room:
        return text
    end = max(room - len(f" ... {len(text):,} more characters"), 0)
    return f"{text[:end]} ... {len(text) - end:,} more characters"[:room]


def details(fields: Mapping[str, JsonValue], *, most: int, room: int, rooms: Mapping[str, int]) -> dict[str, JsonValue]:
    """Facts for people: at most `most` of them, each at most `room` characters (or its own number in `rooms`)."""
    filled = {name: value for name, value in fields.items() if value not in (None, "", {}, [])}
    shown = {
        cut(cleaned(name), 100): _value(name, value, rooms.get(name, room))
        for name, value in list(filled.items())[:most]
    }
    if len(filled) > most:
        shown["more"] = f"{len(filled) - most:,} more fields are left out"
    return shown


def _value(name: str, value: JsonValue, room: int) -> JsonValue:
    if _SENSITIVE_NAME.fullmatch(name):
        return HIDDEN
    if isinstance(value, str) and _DATABASE_NAME.fullmatch(name):
        return cut(_printable(redacted(_host(value))), room)
    safe = _safe(name, value)
    if isinstance(safe, str):
        return cut(safe, room)
    text = json.dumps(safe, ensure_ascii=False)
    return safe if len(text) <= room else cut(text, room)


def _safe(name: str, value: JsonValue) -> JsonValue:
    """A value of any depth without secrets, each text without what is not printed."""
    if _SENSITIVE_NAME.fullmatch(name) and not isinstance(value, bool):
        return HIDDEN
    if isinstance(value, str):
        return _printable(redacted(value))
    if isinstance(value, list):
        return [_safe("", item) for item in value]
    if isinstance(value, dict):
        return {cleaned(key): _safe(key, item) for key, item in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)  # JSON has no NaN (RFC 8259, section 6)
    return value


def _printable(text: str) -> str:
    """Several lines may stay several lines."""
    return "\n".join(_CONTROL.sub(" ", line).rstrip() for line in text.replace("\r", "\n").split("\n")).strip("\n")


def _host(value: str) -> str:
    """`postgresql://user:password@host:5432/name` is `host:5432`; what is no address stays as it is."""
    scheme, separator, rest = value.partition("://")
    if not separator:
        return value.rpartition("@")[2].partition("/")[0] if "@" in value else value
    return rest.rpartition("@")[2].partition("/")[0].partition("?")[0] or scheme
