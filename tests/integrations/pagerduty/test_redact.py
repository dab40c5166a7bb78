"""What of an event's text may leave."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from integrations.pagerduty.redact import cut, details, redacted


def shown(**fields: JsonValue) -> dict[str, JsonValue]:
    return details(fields, most=50, room=2000, rooms={"error": 1000})


@pytest.mark.parametrize(
    "text",
    [
        "could not connect to postgresql://confiture:canary@db.example.com:5432/app",
        "postgres://confiture:can@ry/canary@db.example.com/app refused",
        "redis://:canary@cache:6379/0",
        "https://ada:canary@example.com/path",
        "FATAL: password=canary host=db",
        "password: 'canary canary'",
        'config {"api_key": "canary", "user": "x"}',
        "PGPASSWORD=canary psql failed",
        "SLACK_TOKEN = canary",
        "Authorization: Bearer canary",
        "authorization=canary",
        "client_secret=canary&grant=x",
    ],
)
def test_credentials_in_a_text_are_not_shown(text: str) -> None:
    assert "canary" not in redacted(text)
    assert "canary" not in str(shown(error=text, nested={"list": [text]}))


@pytest.mark.parametrize(
    "text",
    [
        "lock timeout on users after 2.3 s",
        "https://github.com/@acme/api?author=a@b.c",
        "mail to ada@example.com failed",
        "the token bucket is empty",
        "password authentication failed for user app",
    ],
)
def test_text_without_credentials_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("name", "value", "host"),
    [
        ("database_url", "postgresql://user:canary@db.example.com:5432/app?sslmode=on", "db.example.com:5432"),
        ("database", "user:canary@db.example.com/app", "db.example.com"),
        ("db_url", "mysql://db.example.com/app", "db.example.com"),
        ("dsn", "postgres://db.example.com?password=canary", "db.example.com"),
        ("DATABASE_URL", "postgres://user:can@ry@db.example.com/app", "db.example.com"),
        ("database", "app", "app"),
    ],
)
def test_of_a_database_only_its_host_is_shown(name: str, value: str, host: str) -> None:
    assert shown(**{name: value}) == {name: host}


@pytest.mark.parametrize("name", ["password", "api_token", "GITHUB_TOKEN", "secret", "cookie", "private_key"])
def test_what_is_called_a_secret_is_hidden_at_any_depth(name: str) -> None:
    fields: dict[str, JsonValue] = {name: "canary", "more": [{name: {"deep": "canary"}}]}
    assert "canary" not in str(shown(**fields))


def test_an_error_is_cut_at_a_thousand_characters_with_the_rest_counted() -> None:
    error = shown(error="e" * 5000)["error"]
    assert isinstance(error, str)
    assert len(error) == 1000
    assert error.endswith(" more characters")


def test_more_fields_than_fit_are_counted() -> None:
    found = details({f"f{number}": 1 for number in range(60)}, most=50, room=10, rooms={})
    assert (len(found), found["more"]) == (51, "10 more fields are left out")


def test_what_is_empty_is_left_out_and_falsehood_is_not() -> None:
    assert shown(a=None, b="", c=[], d={}, e=False, f=0) == {"e": False, "f": 0}


def test_tables_and_numbers_keep_their_shape_while_they_are_small() -> None:
    assert shown(tables=["users", "orders"], rows=7) == {"tables": ["users", "orders"], "rows": 7}
    assert isinstance(shown(tables=["users"] * 1000)["tables"], str)


@given(st.text(max_size=300), st.integers(1, 100))
def test_no_cut_is_too_long(text: str, room: int) -> None:
    assert len(cut(text, room)) <= room


@pytest.mark.parametrize("text", ["redis://" * 2000, "a" * 20_000, "token" * 4000, "password=" * 3000, "://@" * 5000])
def test_no_text_takes_long(text: str) -> None:
    began = time.monotonic()
    redacted(text)
    assert time.monotonic() - began < 1
