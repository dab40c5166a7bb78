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


PEM = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEAtop\nanother-line-of-it==\nshort\n-----END KEY-----\n"


@pytest.mark.parametrize("said", [PEM, PEM.strip(), " ".join(PEM.split()), "".join(PEM.split()), repr(PEM)])
def test_a_secret_of_several_lines_is_found_however_they_are_put_together(said: str) -> None:
    found = Redactor([SecretStr(PEM)])(f"can't read {said}, sorry")
    assert found.startswith("can't read ")
    assert found.endswith(", sorry")
    assert "MIIE" not in found
    assert "another-line" not in found


def test_what_stands_around_a_key_and_its_short_lines_are_words_of_others_too() -> None:
    text = "-----BEGIN KEY----- was expected, not short"
    assert Redactor([SecretStr(PEM)])(text) == text


def test_it_does_not_show_them_itself() -> None:
    assert "token" not in repr(Redactor(Settings()))


def test_without_settings_nothing_is_taken_out() -> None:
    assert Redactor()("as it is") == "as it is"
