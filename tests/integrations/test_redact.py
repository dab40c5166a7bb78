"""No secret of an account's settings is in a text that went through its redactor."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, SecretStr

from integrations.redact import INSTEAD, Redactor


class Endpoint(BaseModel):
    secret: SecretStr


class Settings(BaseModel):
    user: str = "somebody"
    token: SecretStr = SecretStr("token-of-six")
    longer: SecretStr = SecretStr("token-of-six-and-more/ with=signs")
    quoted: SecretStr = SecretStr('a"quoted" one')
    pin: SecretStr = SecretStr("12")
    endpoints: dict[str, Endpoint] = {"a": Endpoint(secret=SecretStr("deep-secret"))}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Authorization: Bearer token-of-six", f"Authorization: Bearer {INSTEAD}"),
        ("token-of-six-and-more/ with=signs", INSTEAD),
        ("?key=token-of-six-and-more%2F%20with%3Dsigns&x", f"?key={INSTEAD}&x"),
        (
            r'{"t": "token-of-six-and-more/ with=signs", "q": "a\"quoted\" one"}',
            f'{{"t": "{INSTEAD}", "q": "{INSTEAD}"}}',
        ),
        ("deep-secret and token-of-six, deep-secret", f"{INSTEAD} and {INSTEAD}, {INSTEAD}"),
        ("somebody said 12 words", "somebody said 12 words"),
        ("", ""),
    ],
)
def test_secrets_are_taken_out_and_nothing_else(text: str, told: str) -> None:
    assert Redactor(Settings())(text) == told


def test_it_does_not_show_them_itself() -> None:
    assert "token" not in repr(Redactor(Settings()))


def test_without_settings_nothing_is_taken_out() -> None:
    assert Redactor()("as it is") == "as it is"
