"""Signatures against the published vectors, the reference library, and whoever would forge one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook as Reference
from standardwebhooks.webhooks import WebhookVerificationError

from integrations.errors import Misconfigured, Unauthorized
from integrations.signing import (
    public_key,
    sign_plain,
    sign_slack,
    sign_standard,
    standard_secret,
    verify_plain,
    verify_slack,
    verify_standard,
)

# Standard Webhooks, the example of its libraries' tests.
STANDARD_SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
STANDARD_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
STANDARD_TIME = 1614265330
STANDARD_BODY = b'{"test": 2432232314}'
STANDARD_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

# Svix server, worker.rs, `test_asymmetric_key_signing`; the spec shows the signature too ("Webhook headers").
ED25519_KEY = SecretStr("whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==")
ED25519_PUBLIC = SecretStr("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=")
ED25519_SIGNATURE = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

# GitHub docs, "Validating webhook deliveries", "Testing the webhook payload validation".
GITHUB_SECRET = SecretStr("It's a Secret to Everybody")
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

# Slack docs, "Verifying requests from Slack", the worked example.
SLACK_SECRET = SecretStr("8f742231b10e8888abcd99yyyzzz85a5")
SLACK_TIME = "1531420618"
SLACK_BODY = urlencode(
    {
        "token": "xyzz0WbapA4vBCDEFasx0q6G",
        "team_id": "T1DC2JH3J",
        "team_domain": "testteamnow",
        "channel_id": "G8PSS9T3V",
        "channel_name": "foobar",
        "user_id": "U2CERLKJA",
        "user_name": "roadrunner",
        "command": "/webhook-collect",
        "text": "",
        "response_url": "https://hooks.slack.com/commands/T1DC2JH3J/397700885554/96rGlfmibIGlgcZRskXaIFfN",
        "trigger_id": "398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    }
).encode()
SLACK_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"

OTHER_STANDARD = SecretStr("whsec_" + base64.b64encode(bytes(range(32))).decode())
OTHER_ED25519 = SecretStr("whsk_" + base64.b64encode(bytes(range(32))).decode())
OTHER = SecretStr("another secret")


def check_standard(
    signature: str | None = STANDARD_SIGNATURE,
    *,
    message_id: str | None = STANDARD_ID,
    timestamp: str | None = str(STANDARD_TIME),
    body: bytes = STANDARD_BODY,
    secrets: tuple[SecretStr, ...] = (STANDARD_SECRET,),
    now: float = STANDARD_TIME,
) -> None:
    verify_standard(message_id, timestamp, body, signature, secrets, now=now)


def check_slack(
    signature: str | None = SLACK_SIGNATURE,
    *,
    timestamp: str | None = SLACK_TIME,
    body: bytes = SLACK_BODY,
    secrets: tuple[SecretStr, ...] = (SLACK_SECRET,),
    now: float = float(SLACK_TIME),
) -> None:
    verify_slack(body, timestamp, signature, secrets, now=now)


def check_github(
    signature: str | None = GITHUB_SIGNATURE,
    *,
    body: bytes = GITHUB_BODY,
    secrets: tuple[SecretStr, ...] = (GITHUB_SECRET,),
) -> None:
    verify_plain(body, signature, secrets)


def check_ed25519(
    signature: str | None = ED25519_SIGNATURE,
    *,
    body: bytes = STANDARD_BODY,
    secrets: Iterable[SecretStr] = (ED25519_PUBLIC,),
    now: float = STANDARD_TIME,
) -> None:
    verify_standard(STANDARD_ID, str(STANDARD_TIME), body, signature, secrets, now=now)


CHECKS = [
    pytest.param(check_standard, STANDARD_SIGNATURE, OTHER_STANDARD, STANDARD_SECRET, id="standard"),
    pytest.param(check_ed25519, ED25519_SIGNATURE, OTHER_ED25519, ED25519_PUBLIC, id="ed25519"),
    pytest.param(check_slack, SLACK_SIGNATURE, OTHER, SLACK_SECRET, id="slack"),
    pytest.param(check_github, GITHUB_SIGNATURE, OTHER, GITHUB_SECRET, id="github"),
]
Check = Callable[..., None]


# -- the published vectors ---------------------------------------------------------------------------------------------


def test_we_sign_as_standard_webhooks_publishes() -> None:
    assert sign_standard(STANDARD_ID, STANDARD_TIME, STANDARD_BODY, [STANDARD_SECRET]) == STANDARD_SIGNATURE


def test_we_sign_with_ed25519_as_the_spec_and_svix_publish() -> None:
    assert sign_standard(STANDARD_ID, STANDARD_TIME, STANDARD_BODY, [ED25519_KEY]) == ED25519_SIGNATURE
    seed = base64.b64encode(base64.b64decode(ED25519_KEY.get_secret_value()[5:])[:32]).decode()
    short = SecretStr("whsk_" + seed)
    assert sign_standard(STANDARD_ID, STANDARD_TIME, STANDARD_BODY, [short]) == ED25519_SIGNATURE
    assert public_key(short) == public_key(ED25519_KEY) == ED25519_PUBLIC.get_secret_value()
    assert public_key(STANDARD_SECRET) is None


def test_a_shared_secret_and_a_key_sign_side_by_side_and_a_receiver_of_either_is_content() -> None:
    both = sign_standard(STANDARD_ID, STANDARD_TIME, STANDARD_BODY, [STANDARD_SECRET, ED25519_KEY])
    assert both == f"{STANDARD_SIGNATURE} {ED25519_SIGNATURE}"
    check_standard(both)
    check_ed25519(both)
    check_ed25519(f"v2,unknown {both}")
    check_ed25519(both, secrets=[ED25519_KEY])


def test_a_receiver_that_trusts_a_key_takes_no_hmac_made_with_its_public_half() -> None:
    """The confusion of algorithms: the public key is no secret, so nothing signed with it counts."""
    public = base64.b64decode(ED25519_PUBLIC.get_secret_value()[5:])
    forged = SecretStr("whsec_" + base64.b64encode(public).decode())
    for signature in (
        sign_standard(STANDARD_ID, STANDARD_TIME, STANDARD_BODY, [forged]),
        ED25519_SIGNATURE.replace("v1a,", "v1,"),
    ):
        with pytest.raises(Unauthorized):
            check_ed25519(signature)


@pytest.mark.parametrize(
    "key",
    [
        "whsk_",
        "whsk_canary",
        "whsk_" + base64.b64encode(b"c" * 31).decode(),
        "whsk_" + base64.b64encode(b"c" * 64).decode(),
        "whsk_" + base64.b64encode(b"c" * 65).decode(),
    ],
)
def test_what_is_no_signing_key_is_a_misconfiguration_and_is_not_shown(key: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        sign_standard(STANDARD_ID, STANDARD_TIME, STANDARD_BODY, [SecretStr(key)])
    assert key.removeprefix("whsk_") == "" or key.removeprefix("whsk_") not in str(caught.value)


@pytest.mark.parametrize("key", ["whpk_", "whpk_AAAA", "whpk_%%%"])
def test_what_is_no_public_key_is_a_misconfiguration(key: str) -> None:
    with pytest.raises(Misconfigured, match="whpk_"):
        check_ed25519(secrets=[SecretStr(key)])


def test_we_sign_as_github_publishes() -> None:
    assert sign_plain(GITHUB_BODY, GITHUB_SECRET) == GITHUB_SIGNATURE


def test_we_sign_as_slack_publishes() -> None:
    assert sign_slack(int(SLACK_TIME), SLACK_BODY, SLACK_SECRET) == SLACK_SIGNATURE


@pytest.mark.parametrize(("check", "signature", "other", "secret"), CHECKS)
def test_the_published_signature_is_accepted(check: Check, signature: str, other: SecretStr, secret: SecretStr) -> None:
    check(signature)


# -- the reference library, both ways ----------------------------------------------------------------------------------


@given(key=st.binary(min_size=24, max_size=64), body=st.dictionaries(st.text(), st.integers() | st.text()))
def test_the_reference_library_accepts_what_we_sign(key: bytes, body: dict[str, object]) -> None:
    secret = SecretStr("whsec_" + base64.b64encode(key).decode())
    raw = json.dumps(body).encode()
    now = int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign_standard("msg_1", now, raw, [OTHER_STANDARD, secret]),
    }
    assert Reference(secret.get_secret_value()).verify(raw, headers) == body
    with pytest.raises(WebhookVerificationError):
        Reference(secret.get_secret_value()).verify(raw + b" ", headers)


@given(key=st.binary(min_size=24, max_size=64), body=st.text(), stamp=st.integers(0, 4_000_000_000))
def test_we_accept_what_the_reference_library_signs(key: bytes, body: str, stamp: int) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    signature = Reference(secret).sign("msg_1", datetime.fromtimestamp(stamp, UTC), body)
    verify_standard("msg_1", str(stamp), body.encode(), signature, [SecretStr(secret)], now=stamp)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("check", "signature", "other", "secret"), CHECKS)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda s: None, id="missing"),
        pytest.param(lambda s: "", id="empty"),
        pytest.param(lambda s: " ", id="blank"),
        pytest.param(lambda s: s[:-1], id="truncated"),
        pytest.param(lambda s: s + "0", id="longer"),
        pytest.param(lambda s: s.replace("=", "", 1).replace(",", "", 1), id="without its separator"),
        pytest.param(lambda s: s.upper(), id="upper case"),
        pytest.param(lambda s: s[:7] + s[7:].upper(), id="upper-case digest"),
        pytest.param(lambda s: s[3:], id="without its version"),
        pytest.param(lambda s: s[:-2] + "é", id="Latin-1"),
        pytest.param(lambda s: "\N{FULLWIDTH LATIN SMALL LETTER V}" + s[1:], id="not ASCII"),
        pytest.param(lambda s: "\ud800" + s, id="lone surrogate"),
        pytest.param(lambda s: "\x00", id="null"),
        pytest.param(lambda s: s * 10_000, id="huge"),
    ],
)
def test_a_spoiled_signature_is_refused(
    check: Check, signature: str, other: SecretStr, secret: SecretStr, spoil: Callable[[str], str | None]
) -> None:
    with pytest.raises(Unauthorized):
        check(spoil(signature))


@pytest.mark.parametrize(("check", "signature", "other", "secret"), CHECKS)
@given(junk=st.text())
def test_no_junk_is_accepted_and_none_raises_anything_else(
    check: Check, signature: str, other: SecretStr, secret: SecretStr, junk: str
) -> None:
    with pytest.raises(Unauthorized):
        check(junk)


@pytest.mark.parametrize(("check", "signature", "other", "secret"), CHECKS)
def test_a_changed_body_is_refused(check: Check, signature: str, other: SecretStr, secret: SecretStr) -> None:
    with pytest.raises(Unauthorized):
        check(signature, body=b"something else")


@pytest.mark.parametrize(("check", "signature", "other", "secret"), CHECKS)
def test_another_secret_is_refused(check: Check, signature: str, other: SecretStr, secret: SecretStr) -> None:
    with pytest.raises(Unauthorized):
        check(signature, secrets=(other,))


@pytest.mark.parametrize(("check", "signature", "other", "secret"), CHECKS)
def test_without_a_secret_nothing_is_accepted(
    check: Check, signature: str, other: SecretStr, secret: SecretStr
) -> None:
    with pytest.raises(Unauthorized):
        check(signature, secrets=())


@pytest.mark.parametrize(("check", "signature", "other", "secret"), CHECKS)
@pytest.mark.parametrize("newest_first", [True, False])
def test_while_secrets_rotate_either_is_accepted(
    check: Check, signature: str, other: SecretStr, secret: SecretStr, newest_first: bool
) -> None:
    check(signature, secrets=(other, secret) if newest_first else (secret, other))


@pytest.mark.parametrize(("check", "signature", "other", "secret"), CHECKS)
def test_a_refusal_tells_a_forger_nothing(check: Check, signature: str, other: SecretStr, secret: SecretStr) -> None:
    refusals = []
    for given_signature, secrets in ((None, (secret,)), ("junk", (secret,)), (signature, (other,))):
        with pytest.raises(Unauthorized) as caught:
            check(given_signature, secrets=secrets)
        refusals.append(caught.value)
    assert {refusal.detail for refusal in refusals} == {"signature mismatch"}
    assert not any(secret.get_secret_value() in repr(refusal) + refusal.reason for refusal in refusals)
    assert not any(signature in repr(refusal) + refusal.reason for refusal in refusals)


# -- time stamps -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [check_standard, check_slack])
@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_five_minutes_either_way_are_accepted(check: Check, seconds: int) -> None:
    stamp = STANDARD_TIME if check is check_standard else float(SLACK_TIME)
    check(now=stamp + seconds)


@pytest.mark.parametrize("check", [check_standard, check_slack])
@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 86_400])
def test_more_than_five_minutes_are_refused(check: Check, seconds: int) -> None:
    stamp = STANDARD_TIME if check is check_standard else float(SLACK_TIME)
    with pytest.raises(Unauthorized) as caught:
        check(now=stamp + seconds)
    assert f"{seconds:+d} s away from our clock" in caught.value.reason


@pytest.mark.parametrize("check", [check_standard, check_slack])
@pytest.mark.parametrize(
    "timestamp",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param("soon", id="a word"),
        pytest.param("1614265330.0", id="a fraction"),
        pytest.param("-1614265330", id="negative"),
        pytest.param(" 1614265330", id="with a space"),
        pytest.param("1_614_265_330", id="with underscores"),
        pytest.param("0x60378372", id="hexadecimal"),
        pytest.param("\u0661\u0666\u0661\u0664\u0662\u0666\u0665\u0663\u0663\u0660", id="Arabic digits"),
        pytest.param("\u00b9\u2076", id="superscript digits, which isdigit() takes and int() does not"),
        pytest.param("9" * 5000, id="huge, which int() refuses"),
        pytest.param("9" * 12, id="far in the future"),
    ],
)
def test_a_time_stamp_that_is_none_is_refused(check: Check, timestamp: str | None) -> None:
    with pytest.raises(Unauthorized):
        check(timestamp=timestamp)


def test_a_time_stamp_that_was_not_signed_is_refused() -> None:
    with pytest.raises(Unauthorized):
        check_standard(timestamp=str(STANDARD_TIME + 1))
    with pytest.raises(Unauthorized):
        check_slack(timestamp=str(int(SLACK_TIME) + 1))


# -- Standard Webhooks in particular -----------------------------------------------------------------------------------


@pytest.mark.parametrize("message_id", [None, "", "msg_other", STANDARD_ID + ".", "\ud800"])
def test_an_id_that_was_not_signed_is_refused(message_id: str | None) -> None:
    with pytest.raises(Unauthorized):
        check_standard(message_id=message_id)


def test_any_signature_of_the_list_may_match() -> None:
    check_standard(f"v1,{'A' * 43}= v1a,unknown {STANDARD_SIGNATURE}")


def test_a_signature_of_another_version_does_not_count() -> None:
    with pytest.raises(Unauthorized):
        check_standard(STANDARD_SIGNATURE.replace("v1,", "v2,"))


def test_only_the_first_twenty_signatures_are_tried() -> None:
    check_standard(" ".join(["v1,junk"] * 19 + [STANDARD_SIGNATURE]))
    with pytest.raises(Unauthorized):
        check_standard(" ".join(["v1,junk"] * 20 + [STANDARD_SIGNATURE]))


def test_every_secret_signs_once() -> None:
    both = sign_standard(STANDARD_ID, STANDARD_TIME, STANDARD_BODY, [OTHER_STANDARD, STANDARD_SECRET])
    assert len(both.split(" ")) == 2
    check_standard(both, secrets=(STANDARD_SECRET,))
    check_standard(both, secrets=(OTHER_STANDARD,))


def test_the_prefix_of_a_secret_may_be_left_out() -> None:
    bare = SecretStr(STANDARD_SECRET.get_secret_value().removeprefix("whsec_"))
    assert standard_secret(bare) == standard_secret(STANDARD_SECRET)


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param("", id="empty"),
        pytest.param("whsec_", id="nothing but the prefix"),
        pytest.param("whsec_not base64!", id="not base64"),
        pytest.param("whsec_" + "é" * 40, id="not ASCII"),
        pytest.param("whsec_" + base64.b64encode(bytes(23)).decode(), id="23 bytes"),
        pytest.param("whsec_" + base64.b64encode(bytes(65)).decode(), id="65 bytes"),
    ],
)
def test_what_is_no_standard_secret_is_a_misconfiguration_and_is_not_shown(secret: str) -> None:
    with pytest.raises(Misconfigured, match="24 to 64") as caught:
        standard_secret(SecretStr(secret))
    assert len(secret) < 7 or secret.removeprefix("whsec_") not in str(caught.value)


def test_an_empty_secret_neither_signs_nor_verifies() -> None:
    empty = SecretStr("")
    with pytest.raises(Misconfigured, match="empty"):
        sign_plain(b"", empty)
    with pytest.raises(Misconfigured, match="empty"):
        check_slack(secrets=(empty,))
    with pytest.raises(Misconfigured, match="empty"):
        check_github(secrets=(empty,))
