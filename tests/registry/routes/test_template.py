"""Conditions and templates: what they come to, what is refused, and that no event can break them."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.routes.evaluate import CPU_SECONDS, MAX_STEPS
from registry.routes.filters import FILTERS, MAX_TEXT, TESTS
from registry.routes.syntax import MAX_DEPTH, MAX_SOURCE, Malformed, parse_expression, written
from registry.routes.template import Condition, Template

DATA = {
    "environment": "staging",
    "duration_ms": 1834.0,
    "version": None,
    "ok": True,
    "tags": ["a", "b", {"deep": "c"}],
    "parameters": {"vcpus": 2, "name": "x"},
}


def names(**data: Any) -> dict[str, Any]:
    event = {"id": "1", "time": "2026-01-12T09:00:00Z"}
    return {"topic": "task.failed", "event": event, "data": data or DATA, "runbook": "", "severity": "error"}


def text(source: str, **data: Any) -> str:
    return Template.of(source).render(names(**data)).text


def why_not(source: str, **data: Any) -> str | None:
    return Condition.of(source).why_not(names(**data))


# -- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "data.environment == 'staging'",
        'data["environment"] != "production" and data.duration_ms > 500',
        "data.environment in ['production', 'staging']",
        "'vcpus' in data.parameters",
        "'tag' in data.environment or 'stag' in data.environment",
        "data.version is none",
        "data.nope is not defined",
        "not (data.nope is defined)",
        "data.environment is startswith 'stag' and data.environment is endswith('ing')",
        "data.tags[2].deep == 'c' and data.tags[-1] == data.tags[2]",
        "(data.nope | default(600)) > 500",
        "data.nope == 1 or data.ok",
        "1 < data.duration_ms / 1000 < 2",
        "severity == 'error' and topic == 'task.failed'",
        "data.duration_ms > 500 if data.ok else false",
    ],
)
def test_a_condition_that_holds(source: str) -> None:
    assert why_not(source) is None


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "data.environment == 'production' and data.duration_ms > 500",
            "data.environment == 'production' was false: data.environment = 'staging'",
        ),
        ("data.ok and data.duration_ms > 2000", "data.duration_ms > 2000 was false: data.duration_ms = 1834"),
        ("data.nope == 1", "data.nope is missing"),
        ("not (data.nope == 1)", "data.nope is missing"),
        ("data.nope != 1 and data.ok", "data.nope is missing"),
        ("data.version > 3", "data.version > 3 can't be compared: data.version = null"),
        ("data.environment > 3", "data.environment > 3 can't be compared: data.environment = 'staging'"),
        ("data.version.major == 1", "data.version is null"),
        ("data.ok.deeper == 1", "data.ok is true or false, it has no 'deeper'"),
        ("data.tags[9] == 'a'", "data.tags[9] is missing"),
        (
            "data.environment == 'a' or data.nope == 2",
            "data.environment == 'a' was false: data.environment = 'staging'; data.nope is missing",
        ),
        ("not data.ok", "not data.ok was false: data.ok = true"),
        ("data.duration_ms / 0 > 1", "data.duration_ms / 0 divides by zero"),
        ("data.environment * 9 == 'x'", "data.environment is text, not a number"),
        ("1 == 2", "1 == 2 was false"),
    ],
)
def test_one_that_does_not_names_the_first_part_that_failed_and_its_value(source: str, why: str) -> None:
    assert why_not(source) == why


def test_neither_a_question_about_a_missing_field_nor_its_opposite_is_true() -> None:
    assert why_not("data.nope == 1") == why_not("not (data.nope == 1)") == why_not("data.nope != 1")


def test_values_in_a_reason_are_cut_and_can_t_forge_a_line() -> None:
    said = why_not("data.text == ''", text="a\nroute prod taken" + "x" * 1000)
    assert said is not None
    assert "\n" not in said
    assert len(said) < 120


# -- templates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("{{ data.environment | upper }}!", "STAGING!"),
        ("{{ data.duration_ms }} {{ data.ok }} {{ data.tags }}", '1834 true ["a", "b", {"deep": "c"}]'),
        ("{{ data.duration_ms | duration }}", "1.8 s"),
        ("a{{ data.version }}b{{ data.nope | upper }}c", "abc"),
        ("{{ data.version or 'none' }} {{ data.nope | default('no') }}", "none no"),
        ("{% for tag in data.tags %}{{ loop.index }}/{{ loop.length }} {% endfor %}", "1/3 2/3 3/3 "),
        ("{% for k, v in data.parameters | items %}{{ k }}={{ v }};{% endfor %}", "vcpus=2;name=x;"),
        ("{% for tag in data.nope %}x{% else %}none{% endfor %}", "none"),
        ("{% for t in data.tags if t is string %}{{ t }}{% if not loop.last %},{% endif %}{% endfor %}", "a,b"),
        ("{% if data.nope > 3 %}a{% elif data.ok %}b{% else %}c{% endif %}", "b"),
        ("{{ 'yes' if data.nope else 'no' }}{{ 'yes' if data.nope }}", "no"),
        ("{{ data.environment[:4] ~ '-' ~ data.tags[0] }}", "stag-a"),
        ("{{ (data.parameters.vcpus + 3) * 2 - -1 }} {{ 7 // 2 }} {{ 7 % 4 }}", "11 3 3"),
        ("{{ data.tags | length }} {{ data.tags | first }} {{ data.tags[:2] | join('+') }}", "3 a a+b"),
        (
            "{{ data.environment | truncate(6) }}|{{ 1.23456 | round(2) }}|{{ 2.6 | round }}|{{ ' x ' | trim }}",
            "sta...|1.23|3|x",
        ),
        ("{% raw %}{{ as it is }}{% endraw %}{# nothing #}", "{{ as it is }}"),
        ("<b>{{ data.html }}</b>", "<b></b>"),
    ],
)
def test_a_template_s_text(source: str, made: str) -> None:
    assert text(source) == made


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0, "0 ms"),
        (0.25, "0.2 ms"),
        (340, "340 ms"),
        (1000, "1 s"),
        (59_940, "59.9 s"),
        (61_000, "1 min 1 s"),
        (3_600_000, "1 h"),
        (3_780_000, "1 h 3 min"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_durations_as_people_read_them(milliseconds: float, shown: str) -> None:
    assert text("{{ data.d | duration }}", d=milliseconds) == shown


def test_what_was_missing_is_noted_with_its_line() -> None:
    made = Template.of("{{ data.environment }}\n{{ data.version }}{{ data.nope | upper }}\n").render(names())
    assert [(note.line, note.text) for note in made.notes] == [(2, "data.version is null"), (2, "data.nope is missing")]


def test_what_no_event_can_answer_is_a_mistake_of_the_template() -> None:
    notes = Template.of("{{ data.environment + 1 }}{{ data.version + 1 }}").render(names()).notes
    assert [note.is_mistake for note in notes] == [True, False]


def test_text_from_an_event_is_never_read_as_a_template() -> None:
    assert text("{{ data.a }}", a="{{ data.b }}{% for x in y %}", b="secret") == "{{ data.b }}{% for x in y %}"


# -- what is refused -------------------------------------------------------------------------------------------------

ESCAPES = [  # as collected for Jinja2's sandbox: CVE-2016-10745, CVE-2019-10906, CVE-2024-56201, CVE-2024-56326, ...
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ data.__class__ }}",
    "{{ data.__init__.__globals__ }}",
    "{{ '{0.__class__}'.format(data) }}",
    "{{ '{a.__class__}'.format_map({'a': data}) }}",
    "{{ '{0.__call__.__builtins__}'.format | attr('format') }}",
    "{{ data | attr('__class__') }}",
    "{{ ['__class__'] | map('attr', '__class__') | list }}",
    "{{ data | map(attribute='__class__') }}",
    "{{ self.__dict__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__ }}",
    "{{ namespace(a=1) }}",
    "{{ joiner }}",
    "{{ config }}",
    "{{ range(1000000000) }}",
    "{{ data.get('x') }}",
    "{{ loop.__class__ }}",
    "{% for x in data.tags %}{{ loop._iterable }}{% endfor %}",
    "{% for x in data.tags %}{{ loop.cycle(1) }}{% endfor %}",
    "{% set x = 1 %}",
    "{% set x %}{{ data }}{% endset %}",
    "{% macro m() %}{{ m() }}{% endmacro %}",
    "{% call data() %}{% endcall %}",
    "{% filter upper %}x{% endfilter %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% block x %}{% endblock %}",
    "{% with a = 1 %}{% endwith %}",
    "{% autoescape true %}{% endautoescape %}",
    "{% for x in data.tags recursive %}{{ loop(x) }}{% endfor %}",
    "{% for a in data.t %}{% for b in a %}{% for c in b %}{% endfor %}{% endfor %}{% endfor %}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 'x' | center(99999999999) }}",
    "{{ '%99999999999d' | format(1) }}",
    "{{ 'x' | indent(99999999999) }}",
    "{{ {'a': 1} }}",
    "{{ data.x | truncate(*[1]) }}",
    "{{ data.x | truncate(length=1) }}",
    "{{ data.tags[::2] }}",
    "{{ caller() }}",
    "{{ data.x is filter }}",
    "{{ varargs }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_a_known_escape_is_refused_before_any_event(source: str) -> None:
    with pytest.raises(Malformed):
        Template.of(source)


def test_a_path_leads_through_the_event_s_json_alone() -> None:
    """The same names as keys of an event are harmless, and nothing of Python stands behind a value."""
    assert text("{{ data['__class__'] }}", a=1) == ""
    assert text("{{ data['__class__'] }}", __class__="a word") == "a word"
    for attribute in ("keys", "items", "upper", "format", "append", "real"):
        assert (
            text(f"{{{{ data.{attribute} }}}}{{{{ data.a.{attribute} }}}}{{{{ data.l.{attribute} }}}}", a="x", l=[1])
            == ""
        )


@pytest.mark.parametrize(
    "source",
    [
        "x" * (MAX_SOURCE + 1),
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{{ " + "not " * 1500 + "1 }}",
        "{{ 1" + " + 1" * 1500 + " }}",
        "{{ " + "9" * 5000 + " }}",
        "{% if 1 %}" * (MAX_DEPTH + 1) + "{% endif %}" * (MAX_DEPTH + 1),
    ],
    ids=["long", "brackets", "not", "sum", "digits", "if"],
)
def test_a_source_too_large_or_too_deep_is_refused(source: str) -> None:
    with pytest.raises(Malformed):
        Template.of(source)


@pytest.mark.parametrize(
    "source", ["", "data.a ==", "a b", "data.x }} {{ data.y", "data.x | upcase", "dat.x", "data.a(1)"]
)
def test_a_malformed_condition_is_refused(source: str) -> None:
    with pytest.raises(Malformed):
        Condition.of(source)


def test_a_slip_is_named_with_its_line_and_the_nearest_word() -> None:
    with pytest.raises(Malformed, match=r"^line 3: there is no 'dta', did you mean data\?"):
        Template.of("first\n\n{{ dta.x }}")
    with pytest.raises(Malformed, match=r"^there is no filter 'truncat', did you mean truncate\?"):
        Template.of("{{ data.x | truncat(3) }}")


# -- bounds ----------------------------------------------------------------------------------------------------------

HUGE = {
    "text": "x" * 1_000_000,
    "list": list(range(300_000)),
    "lists": [["y" * 1000] * 1000] * 1000,
    "mapping": {str(n): "z" * 100 for n in range(50_000)},
    "number": 10**4000,
}


def _nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in data.list %}{% for b in data.list %}{% endfor %}{% endfor %}",
        "{% for a in data.list %}{% for b in data.list %}{{ data.text }}{% endfor %}{% endfor %}",
        "{% for a in data.lists %}{{ a | join(data.text) | upper | lower }}{% endfor %}",
        "{{ data.text ~ data.text ~ data.text ~ data.lists }}" * 100,
        "{{ data.lists | json }}{{ data.mapping }}{{ data }}",
        "{% for k, v in data.mapping | items %}{% for w in data.list if w == data.text %}{% endfor %}{% endfor %}",
        "{{ data.number * data.number * data.number }}{{ data.number }}{{ data.number | round }}",
        "{{ 9999999999 * 9999999999 * 9999999999 * 9999999999 }}",
        "{{ data.text | truncate(99999999999999999999) }}",
        "{% for a in data.list %}{{ data.lists == data.lists[1:] }}{{ data.text in data.text }}{% endfor %}",
    ],
)
def test_no_event_makes_a_template_take_long_or_grow(source: str) -> None:
    began = time.thread_time()
    made = Template.of(source).render(names(**HUGE))
    assert time.thread_time() - began < 4 * CPU_SECONDS
    assert len(made.text) <= MAX_TEXT


def test_a_text_that_is_cut_keeps_its_beginning_and_says_so() -> None:
    made = Template.of("begins {% for n in data.list %}{{ n }} {% endfor %}").render(names(list=list(range(MAX_STEPS))))
    assert made.text.startswith("begins 0 1 2")
    assert made.text.endswith("...")
    assert [note.text for note in made.notes] == [f"cut: more than {MAX_STEPS:,} steps"]


def test_an_event_nested_without_end_is_no_fault() -> None:
    deep = _nested(100_000)
    assert Template.of("{{ data.deep }}").render(names(deep=deep)).text.endswith("...")
    assert why_not("data.deep == data.other", deep=deep, other=_nested(100_000)) == "given up: nested too deep"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
ATOMS = st.sampled_from(
    [
        "data.a",
        "data.b",
        "data.a.b",
        "data.c[0]",
        "data['a'][1:3]",
        "topic",
        "severity",
        "1",
        "2.5",
        "'x'",
        "none",
        "true",
        "[data.a, 1]",
    ]
)
FILTER_USES = st.sampled_from([f"{name}{'(3)' if word.arguments[0] else ''}" for name, word in FILTERS.items()])
TEST_USES = st.sampled_from([f"{name}{'(data.b)' if word.arguments[0] else ''}" for name, word in TESTS.items()])
SIGNS = st.sampled_from(["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "and", "or"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, SIGNS, inner),
        st.builds("({} | {})".format, inner, FILTER_USES),
        st.builds("({} is {})".format, inner, TEST_USES),
        st.builds("(not {})".format, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
    ),
    max_leaves=10,
)
BODIES = st.recursive(
    st.builds("{{{{ {} }}}}".format, EXPRESSIONS) | st.sampled_from(["text ", "\n", "{# c #}"]),
    lambda inner: st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, EXPRESSIONS, inner, inner),
    ),
    max_leaves=6,
)
TEMPLATES = BODIES | st.builds(
    "{{% for a in {} %}}{}{{% for b, c in data | items %}}{{{{ b }}}}{}{{% endfor %}}{{% endfor %}}".format,
    EXPRESSIONS,
    BODIES,
    BODIES,
)


@given(TEMPLATES, st.dictionaries(st.sampled_from("abc"), JSON, max_size=3))
def test_any_template_of_the_language_ends_in_bounds_whatever_the_event(source: str, data: dict[str, Any]) -> None:
    began = time.thread_time()
    made = Template.of(source).render({**names(), "data": data})
    assert len(made.text) <= MAX_TEXT
    assert time.thread_time() - began < 4 * CPU_SECONDS


@given(EXPRESSIONS, st.dictionaries(st.sampled_from("abc"), JSON, max_size=3))
def test_any_condition_holds_or_says_why_not(source: str, data: dict[str, Any]) -> None:
    seen = {**names(), "data": data}
    said = Condition.of(source).why_not(seen)
    assert said is None or "\n" not in said
    assert Condition.of(source).why_not(seen) == said, "the same question, the same answer"


@given(EXPRESSIONS)
def test_an_expression_that_is_written_out_reads_the_same(source: str) -> None:
    tree = parse_expression(source)
    assert written(parse_expression(written(tree))) == written(tree)


@given(st.text(max_size=60) | TEMPLATES)
def test_any_text_is_a_template_or_is_refused_as_malformed(source: str) -> None:
    with suppress(Malformed):
        assert len(Template.of(source).render(names()).text) <= MAX_TEXT
