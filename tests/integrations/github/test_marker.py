from __future__ import annotations

import re
from typing import Any

from integrations.github.config import GitHubConfig
from integrations.github.marker import Marker


def marker(**settings: Any) -> Marker:
    return Marker(GitHubConfig.model_validate({"token": "t", **settings}))


def test_a_marker_is_a_hidden_comment_that_tells_nothing_of_the_key() -> None:
    text = marker(webhook_secret="w").sign("delivery-1")
    assert re.fullmatch(r"<!-- eventbus:v1:[0-9a-f]{32} -->", text)


def test_markers_differ_by_delivery_and_by_secret() -> None:
    texts = {marker(webhook_secret=w).sign(key) for w in "ab" for key in ("1", "2")}
    assert len(texts) == 4


def test_a_new_token_leaves_the_markers_as_they_are() -> None:
    assert marker(token="old").sign("1") == marker(token="new").sign("1")


def test_a_marker_made_before_the_webhook_secret_was_replaced_is_still_accepted() -> None:
    before = marker(webhook_secret="old").sign("1")
    after = marker(webhook_secret="new", previous_webhook_secrets=["old"])
    assert after.sign("1") != before
    assert before in after.accepted("1")


def test_setting_a_marker_secret_keeps_the_old_markers_valid() -> None:
    before = marker(webhook_secret="w").sign("1")
    after = marker(webhook_secret="w", marker_secret="m")
    assert after.accepted("1")[0] == after.sign("1") != before
    assert before in after.accepted("1")


def test_a_public_key_is_never_accepted_beside_a_secret_one() -> None:
    assert marker().sign("1") not in marker(webhook_secret="w").accepted("1")


def test_the_webhook_secret_itself_is_not_the_key() -> None:
    import hashlib
    import hmac

    naive = hmac.new(b"w", b"1", hashlib.sha256).hexdigest()[:32]
    assert naive not in marker(webhook_secret="w").sign("1")
