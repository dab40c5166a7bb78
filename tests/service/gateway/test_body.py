from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gateway.body import MAX_DEPTH, MAX_KEYS, parse
from service.gateway.problems import Problem


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"'a'",
        b"1 2",
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'"\xc0\xaf"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'["a", {"b": ["\\ud83d"]}]',
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"1e999",
        b"[-1e400]",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"9" * 5000,
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "\\u0062": 2}}',
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b"[" * 500_000,
        json.dumps(dict.fromkeys(map(str, range(MAX_KEYS + 1)))).encode(),
        json.dumps([{"a": 1, "b": 2}] * (MAX_KEYS // 2 + 1)).encode(),
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_another_reader_could_take_otherwise_is_refused(raw: bytes) -> None:
    with pytest.raises(Problem) as refused:
        parse(raw)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"1e308", 1e308),
        (str(sys.float_info.max).encode(), sys.float_info.max),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"a": {"a": 1}}', {"a": {"a": 1}}),
        (b" [true, null] \n", [True, None]),
    ],
)
def test_the_edge_of_what_is_allowed_is_allowed(raw: bytes, value: Any) -> None:
    assert parse(raw) == value


def test_the_deepest_and_the_widest_that_are_allowed_are_allowed() -> None:
    parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    parse(b"[" * MAX_DEPTH + b'"text"' + b"]" * MAX_DEPTH)
    parse(json.dumps(dict.fromkeys(map(str, range(MAX_KEYS)))).encode())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    )
)  # fmt: skip
def test_strict_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary())
def test_any_bytes_are_json_or_a_problem(raw: bytes) -> None:
    try:
        parse(raw)
    except Problem as problem:
        assert problem.status == 400  # noqa: PT017  either is fine, nothing else is
