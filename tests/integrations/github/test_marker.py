from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

import pytest

from integrations.github.config import GitHubConfig
from integrations.github.marker import Mark, Marker, hidden


def marker(**settings: Any) -> Marker:
    return Marker(GitHubConfig.model_validate({"token": "t", **settings}))


def test_a_marker_is_a_hidden_comment_that_tells_nothing_of_key_and_thread() -> None:
    text = hidden(marker(webhook_secret="w").sign("delivery-1", "task_id:42", "event-1"))
    assert re.fullmatch(r"<!-- eventbus:v1:[0-9a-f]{32}:[0-9a-f]{32}:event-1:[0-9a-f]{32} -->", text)


def test_a_marker_is_found_by_its_delivery_and_by_its_thread() -> None:
    one = marker(webhook_secret="w")
    text = f"Hello\n\n{hidden(one.sign('d', 't'))}"
    assert one.is_of_delivery(text, "d")
    assert not one.is_of_delivery(text, "t")
    assert one.is_of_thread(text, "t")
    assert not one.is_of_thread(text, "d")


def test_what_stands_alone_is_of_no_thread() -> None:
    one = marker(webhook_secret="w")
    assert not one.is_of_thread(one.sign("d"), "")
    assert not one.is_of_thread(one.sign("d", "t"), "")


def test_markers_differ_by_delivery_and_by_secret() -> None:
    texts = {marker(webhook_secret=w).sign(key) for w in "ab" for key in ("1", "2")}
    assert len(texts) == 4


def test_a_new_token_leaves_the_markers_as_they_are() -> None:
    assert marker(token="old").sign("1") == marker(token="new").sign("1")


def test_a_marker_made_before_the_webhook_secret_was_replaced_is_still_read() -> None:
    before = marker(webhook_secret="old").sign("1", "t", "e")
    after = marker(webhook_secret="new", previous_webhook_secrets=["old"])
    assert after.sign("1", "t", "e") != before
    assert after.is_of_delivery(before, "1")
    assert after.is_of_thread(before, "t")
    assert [mark.cause for mark in after.read(before)] == ["e"]


def test_setting_a_marker_secret_keeps_the_old_markers_valid() -> None:
    before = marker(webhook_secret="w").sign("1")
    after = marker(webhook_secret="w", marker_secret="m")
    assert after.sign("1") != before
    assert after.is_of_delivery(after.sign("1"), "1")
    assert after.is_of_delivery(before, "1")


def test_a_public_key_is_never_accepted_beside_a_secret_one() -> None:
    assert list(marker(webhook_secret="w").read(marker().sign("1"))) == []


@pytest.mark.parametrize("part", [2, 3, 4, 5])
def test_a_marker_put_together_from_others_is_not_ours(part: int) -> None:
    one = marker(webhook_secret="w")
    first, second = one.sign("1", "a", "x").split(":"), one.sign("2", "b", "y").split(":")
    first[part] = second[part]
    assert list(one.read(":".join(first))) == []


@pytest.mark.parametrize("cause", ["", "-->", "a--b", "a b", "-a", "a-", "x" * 65, "<", "ä"])
def test_an_event_id_that_could_end_the_comment_is_left_out(cause: str) -> None:
    one = marker(webhook_secret="w")
    text = hidden(one.sign("1", "t", cause))
    (mark,) = one.read(text)
    assert mark.cause == ""
    assert text.count("-->") == 1


def test_an_event_id_can_be_read_by_who_knows_nothing_else() -> None:
    one = marker(webhook_secret="w")
    event_id = "0192f0c1-7c4a-7def-8abc-0123456789ab"
    (mark,) = one.read(f"quoted {hidden(one.sign('1', 't', event_id))} text")
    assert mark == Mark(mark.delivery, mark.thread, event_id)


def test_the_webhook_secret_itself_is_not_the_key() -> None:
    naive = hmac.new(b"w", b"delivery\x001", hashlib.sha256).hexdigest()[:32]
    assert naive not in marker(webhook_secret="w").sign("1")


def test_a_marker_that_is_shown_is_text_that_somebody_wrote() -> None:
    one = marker(webhook_secret="w")
    assert not one.is_of_delivery(f"seen: {one.sign('1')}", "1")
    assert not one.is_of_delivery(f"\n{one.sign('1')}\n", "1")
