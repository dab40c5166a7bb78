"""Settings: what is accepted, what is refused and with which words, and that no secret gets out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_validator

from eventbus.event import Event
from integrations.base import Delivery, DeliveryResult, Health, Integration, Manifest, Target
from registry.discovery import RESERVED_KEYS, Adapter
from registry.settings import (
    ConfigError,
    Events,
    IntegrationSettings,
    Settings,
    Worker,
    default_settings,
    load,
    load_with_warnings,
)
from registry.yaml_source import MAX_FILE_BYTES, interpolate

SECRET = "xoxb-canary-0123456789"


class Quiet(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Hook(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str
    secret: SecretStr | None = None


class ChatConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    bot_token: SecretStr
    channel: str = "#general"
    style: Literal["loud", "quiet"] = "quiet"
    hooks: tuple[Hook, ...] = ()
    note: str | None = None

    @field_validator("note")
    @classmethod
    def _indiscreet(cls, note: str | None) -> str | None:
        if note and note.startswith("bad"):
            raise ValueError(f"I do not like {note}")
        if note and note.startswith("worse"):
            raise RuntimeError(f"I can't stand {note}")
        return note


class Log(Integration[Quiet]):
    manifest: ClassVar[Manifest] = Manifest(name="log", title="Log", config=Quiet)

    async def handle_event(self, event: Event[Any], delivery: Delivery) -> DeliveryResult:
        return DeliveryResult.skipped("")

    async def health(self) -> Health:
        return Health("healthy")


class Chat(Log):
    manifest: ClassVar[Manifest] = Manifest(name="chat", title="Chat", config=ChatConfig)


ADAPTERS = {
    "log": Adapter("log", "ours", "1.0", Log),
    "chat": Adapter("chat", "acme-chat", "1.0", Chat),
    "jira": Adapter("jira", "acme-jira", "2.0", reason="ImportError: no module named jwt"),
}

Load = Callable[..., Settings]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Write a file and load it; variables are keyword arguments."""

    def from_text(text: str, **environ: str) -> Settings:
        path = tmp_path / "eventbus.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load(path, ADAPTERS, environ)

    return from_text


def faults(load: Load, text: str, **environ: str) -> list[str]:
    """The lines of the error, without the file's folder; it must hold no secret, in no form."""
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    assert SECRET not in str(caught.value) + repr(caught.value.faults)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value).replace(str(Path(caught.value.file).parent) + "/", "").splitlines()


# -- values ------------------------------------------------------------------------------------------------------------


def test_an_empty_file_means_the_defaults(loaded: Load) -> None:
    assert loaded("") == loaded("# nothing\nworker:\nintegrations:\n") == default_settings(ADAPTERS)


def test_the_log_integration_is_enabled_when_nothing_else_is(loaded: Load) -> None:
    assert list(default_settings(ADAPTERS).integrations) == ["log"]
    settings = loaded("integrations: {chat: {enabled: false}}")
    assert settings.integrations["log"].enabled
    assert not settings.integrations["chat"].enabled


def test_the_log_integration_stays_away_when_another_is_enabled_or_the_file_turns_it_off(loaded: Load) -> None:
    assert list(loaded("integrations: {chat: {bot_token: x}}").integrations) == ["chat"]
    assert not loaded("integrations: {log: {enabled: false}}").integrations["log"].enabled


def test_without_any_adapter_the_error_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match=r"default settings: integrations.log: no adapter 'log' .* known: none"):
        default_settings({})


def test_an_integration_has_the_registrys_keys_and_its_adapters(loaded: Load) -> None:
    settings = loaded(
        """
        integrations:
          deploys:
            adapter: chat
            topics: [vm.*, github.>]
            start: earliest
            timeout: 5
            bot_token: ${TOKEN}
            channel: "#deploys"
        """,
        TOKEN=SECRET,
    )
    deploys = settings.integrations["deploys"]
    assert (deploys.adapter, deploys.topics, deploys.start, deploys.timeout) == (
        "chat",
        ("vm.*", "github.>"),
        "earliest",
        5,
    )
    assert isinstance(deploys.config, ChatConfig)
    assert deploys.config.bot_token.get_secret_value() == SECRET
    assert deploys.config.channel == "#deploys"


def test_nothing_can_be_changed_afterwards(loaded: Load) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        loaded("").worker.concurrency = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("events", "url"),
    [
        ("{}", "embedded://./data"),
        ("{url: 'memory://'}", "memory://"),
        ("{provider: memory}", "memory://"),
        ("{provider: embedded}", "embedded://./data"),
        ("{provider: redis}", "redis://localhost:6379/0"),
        ("{provider: redis, redis: {addr: 'cache:7000', db: 1}}", "redis://cache:7000/1"),
        ("{provider: redis, redis: {addr: '[::1]:6379', tls: true}}", "rediss://[::1]:6379/0"),
        ("{provider: redis, redis: {password: 'a/b@c:d'}}", "redis://:a%2Fb%40c%3Ad@localhost:6379/0"),
        ("{provider: redis, redis: {username: 'me', password: 'pw'}}", "redis://me:pw@localhost:6379/0"),
        ("{provider: redis, redis: {password: '${NONE:-}'}}", "redis://localhost:6379/0"),
    ],
)
def test_where_the_log_is_can_be_said_as_a_url_or_in_parts(loaded: Load, events: str, url: str) -> None:
    assert loaded(f"events: {events}").events.url.get_secret_value() == url


def test_a_default_timeout_follows_a_short_lease(loaded: Load) -> None:
    assert loaded("worker: {lease_seconds: 3}").integrations["log"].timeout == 2


def test_every_setting_is_described_and_every_number_has_bounds() -> None:
    def fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
        for name, field in model.model_fields.items():
            yield f"{model.__name__}.{name}", field
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from fields(field.annotation)

    for name, field in [*fields(Settings), *fields(IntegrationSettings)]:
        assert field.description, name
        if field.annotation in (int, float, int | None):
            limits = {limit for item in field.metadata for limit in ("ge", "gt", "le") if hasattr(item, limit)}
            assert "le" in limits, name
            assert limits & {"ge", "gt"}, name


def test_the_reserved_keys_are_those_of_the_integration_settings() -> None:
    assert IntegrationSettings.model_fields.keys() - {"config"} == RESERVED_KEYS


# -- variables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "environ", "result"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("redis://${HOST}:${PORT}/1", {"HOST": "h", "PORT": "7"}, "redis://h:7/1"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A}", {"A": ""}, ""),
        ("${A:-}", {}, ""),
        ("$${A}", {"A": "x"}, "${A}"),
        ("${A}", {"A": "${B}", "B": "x"}, "${B}"),
        ("costs $5 or $A", {"A": "x"}, "costs $5 or $A"),
    ],
)
def test_variables_are_replaced(text: str, environ: Mapping[str, str], result: str) -> None:
    assert interpolate(text, environ) == (result, [])


@pytest.mark.parametrize("text", ["${}", "${A", "${1A}", "${A-d}", "${A:?no}", "${A:-${B}}"])
def test_a_malformed_variable_is_a_fault_and_never_half_replaced(text: str) -> None:
    result, problems = interpolate(text, {"A": "x", "B": "y"})
    assert (result, problems) == (text if text != "${A:-${B}}" else "${A:-y}", [problems[0]])
    assert "write ${NAME}" in problems[0]


@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_whatever_a_variable_holds_stays_one_string(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text("integrations: {chat: {bot_token: x, channel: '${A}'}}")
    config = load(path, ADAPTERS, {"A": value}).integrations["chat"].config
    assert isinstance(config, ChatConfig)
    assert config.channel == value


def test_a_value_that_is_one_variable_may_become_a_number_or_a_switch(loaded: Load) -> None:
    settings = loaded("gateway: {port: '${PORT}'}\nintegrations: {chat: {enabled: '${ON:-false}'}}", PORT="81")
    assert settings.gateway.port == 81
    assert not settings.integrations["chat"].enabled


def test_an_unset_variable_is_named_with_its_file_and_line(loaded: Load) -> None:
    assert faults(loaded, "integrations:\n  chat:\n    bot_token: ${CHAT_TOKEN}\n") == [
        (
            "eventbus.yaml:3: integrations.chat.bot_token: variable CHAT_TOKEN is not set: "
            "set it, or give a default: ${CHAT_TOKEN:-...}"
        )
    ]


def test_a_value_that_could_not_be_read_has_one_fault_and_its_neighbours_keep_theirs(loaded: Load) -> None:
    found = faults(loaded, "gateway:\n  port: ${PORT}\n  grace_seconds: -1\nworker:\n  prt: ${PORT}\n")
    assert [line.partition(": ")[2].split(":")[0] for line in found] == [
        "gateway.port",
        "gateway.grace_seconds",
        "worker.prt",
        "worker.prt",
    ]
    assert "unknown key, did you mean port?" in found[2]


def test_a_disabled_integration_may_lack_variables_secrets_and_even_its_adapter(loaded: Load) -> None:
    settings = loaded(
        """
        integrations:
          chat: {enabled: false, channel: "${NOT_SET}"}
          unheard: {enabled: false, api_key: "${NOT_SET}"}
          jira: {enabled: false}
        """
    )
    assert settings.integrations["chat"].config is None
    assert settings.integrations["unheard"].config is None


def test_a_disabled_integrations_misspelled_key_is_still_a_fault(loaded: Load) -> None:
    assert faults(loaded, "integrations: {chat: {enabled: false, bot_tokem: '${NOT_SET}'}}") == [
        (
            "eventbus.yaml:1: integrations.chat.bot_tokem: unknown key, did you mean bot_token?; known here: "
            "adapter, bot_token, breaker_seconds, channel, dry_run, enabled, hooks, max_effects_per_minute, note, "
            "paced, start, style, timeout, topics, when_unknown"
        )
    ]


# -- faults ------------------------------------------------------------------------------------------------------------


def test_all_faults_are_reported_at_once_by_line(loaded: Load) -> None:
    found = faults(
        loaded,
        """\
        event: {}
        worker:
          concurrency: many
          lease_secs: 30
        gateway:
          port: 70000
          port: 80
        integrations:
          chat:
            channel: ${CHANNEL}
            style: shrill
            hooks:
              - {url: "http://a", secrets: x}
              - secret: x
          slak: {}
          jira: {}
        log:
          level: 5
        """,
    )
    assert found == [
        (
            "eventbus.yaml:1: event: unknown key, did you mean events?; "
            "known here: events, gateway, inhibitions, integrations, log, retention, routes, runbooks, schedules, "
            "time_intervals, worker"
        ),
        "eventbus.yaml:3: worker.concurrency: should be a valid integer, unable to parse string as an integer",
        (
            "eventbus.yaml:4: worker.lease_secs: unknown key, did you mean lease_seconds?; known here: "
            "concurrency, grace_seconds, host, lease_seconds, max_attempts, poison_limit, port, "
            "retry_base_seconds, retry_max_seconds"
        ),
        "eventbus.yaml:6: gateway.port: should be less than or equal to 65535",
        "eventbus.yaml:7: gateway.port: duplicate key, first given on line 6: remove one",
        "eventbus.yaml:9: integrations.chat.bot_token: is required and missing",
        (
            "eventbus.yaml:10: integrations.chat.channel: variable CHANNEL is not set: "
            "set it, or give a default: ${CHANNEL:-...}"
        ),
        "eventbus.yaml:11: integrations.chat.style: should be 'loud' or 'quiet'",
        (
            "eventbus.yaml:13: integrations.chat.hooks.0.secrets: unknown key, did you mean secret?; "
            "known here: secret, url"
        ),
        "eventbus.yaml:14: integrations.chat.hooks.1.url: is required and missing",
        (
            "eventbus.yaml:15: integrations.slak: no adapter 'slak' is installed; known: chat, log. Install the "
            "package that offers it (entry point group eventbus.integrations), name a known one with `adapter:`, "
            "or set `enabled: false`"
        ),
        (
            "eventbus.yaml:16: integrations.jira: the adapter jira (acme-jira 2.0) can't be used: "
            "ImportError: no module named jwt"
        ),
        "eventbus.yaml:18: log.level: should be 'debug', 'info', 'warning' or 'error'",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("integrations: {Chat: {bot_token: x}}", "1: integrations.Chat: a name is lower-case"),
        ("integrations: {event_bus: {adapter: log}}", "1: integrations.event_bus: is the bus' own name"),
        ("integrations: {noise: {adapter: log}}", "1: integrations.noise: is the name of our own table in Redis"),
        ("integrations: {c: {adapter: chatt}}", "1: integrations.c.adapter: no adapter 'chatt' is installed, did you"),
        ("integrations: [chat]", "1: integrations: should be a mapping"),
        ("integrations: {chat: yes}", "1: integrations.chat: should be a mapping"),
        ("integrations: {chat: {bot_token: 12345}}", "1: integrations.chat.bot_token: should be text: put it in quot"),
        ("integrations: {log: {topics: []}}", "1: integrations.log.topics: should have at least 1 item"),
        ("integrations: {log: {topics: vm.*}}", "1: integrations.log.topics: should be a list"),
        ("integrations: {log: {topics: [vm.*, 'VM']}}", "1: integrations.log.topics.1: is not a topic pattern"),
        ("integrations: {log: {timeout: 0}}", "1: integrations.log.timeout: should be greater than 0"),
        ("integrations: {log: {timeout: .nan}}", "1: integrations.log.timeout: should be a finite number"),
        ("integrations: {log: {timeout: 21}}", "1: integrations.log.timeout: is more than two thirds of worker.lease"),
        ("integrations: {log: {enabled: maybe}}", "1: integrations.log.enabled: should be a valid boolean"),
        ("worker: {concurrency: yes}", "1: worker.concurrency: should be a number"),
        ("worker: {concurrency: 0}", "1: worker.concurrency: should be greater than or equal to 1"),
        ("worker: 5", "1: worker: should be a section"),
        ("worker: {retry_base_seconds: 9, retry_max_seconds: 8}", "1: worker: retry_max_seconds is less than"),
        ("gateway:\n  api_keys:\n", "2: gateway.api_keys: is empty"),
        ("gateway:\n  api_keys:\n    - short", "3: gateway.api_keys.0: is shorter than 16 characters"),
        ("events: {url: 'memory://', provider: memory}", "1: events: url and provider say the same"),
        ("events: {redis: {db: 1}}", "1: events: redis is read with provider: redis only"),
        ("events: {provider: kafka}", "1: events.provider: should be 'redis', 'memory' or 'embedded'"),
        ("events: {provider: redis, redis: {addr: localhost}}", "1: events.redis.addr: should be host:port"),
        ("events: {provider: redis, redis: {username: me}}", "1: events.redis: username needs a password"),
        ("events: {url: 'kafka://host'}", "1: events.url: is no address of the bus"),
        ("- events", " should be a mapping of sections"),
        ("events: {url: !env REDIS}", "1: events.url: a tag"),
        ("worker: !!python/object:os.system {}", "1: worker: a tag"),
        ("worker: {concurrency: !!int many}", "1: worker.concurrency: is no int"),
        ("worker: {[1]: 2}", "1: worker: a key is one word"),
        ("a: &a {x: 1}\nworker: {<<: *a}", "2: worker: a key is one word"),
        ("worker:\n  port: [1", "2: is not YAML: while parsing a flow sequence"),
        ("worker:\n\tport: 1", "2: is not YAML: while scanning for the next token, found character"),
        ("gateway:\n  api_keys: [${KEY}]", "2: is not YAML: "),
        ("worker: \x07", "1: holds a control character"),
        ("a: 1\n---\nb: 2", "2: is not YAML: expected a single document"),
    ],
)
def test_a_fault_says_where_and_what_to_do(loaded: Load, text: str, fault: str) -> None:
    found = faults(loaded, text)
    assert any(line.startswith(f"eventbus.yaml:{fault}") for line in found), found


def test_a_variable_in_a_flow_list_gets_the_hint_to_quote_it(loaded: Load) -> None:
    assert faults(loaded, "gateway:\n  api_keys: [${KEY}]")[0].endswith("inside [ ] and { } put ${...} in quotes")


def test_a_file_that_is_missing_too_large_or_not_text_is_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for content, text in (
        (None, "can't be read: No such file or directory"),
        (b"#" * (MAX_FILE_BYTES + 1), f"is larger than {MAX_FILE_BYTES} bytes"),
        (b"a: 1\nb: \xff\n", "is not UTF-8"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=text) as caught:
            load(path, ADAPTERS, {})
        assert len(caught.value.faults) == 1
    assert caught.value.faults[0].line == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{c}: &{c} [{','.join(['*' + chr(ord(c) - 1)] * 10)}]\n" for c in "bcdefghi"
        ), "look for aliases of aliases"),
        ("a: &a [*a]", "look for an alias inside"),
        ("a: " + "[" * 5000, "nested more than"),
        ("a: " + "[" * 100 + "]" * 100, "nested more than"),
    ],
)  # fmt: skip
def test_a_file_that_would_grow_without_end_is_refused(loaded: Load, text: str, fault: str) -> None:
    assert fault in faults(loaded, text)[0]


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"integrations: {{chat: {{bot_token: x, note: bad {SECRET}}}}}",
        "integrations: {chat: {bot_token: x, note: 'bad ${TOKEN}'}}",
        f"integrations: {{chat: {{bot_token: x, note: worse {SECRET}}}}}",
        f"integrations: {{chat: {{bot_token: [{SECRET}]}}}}",
        f"integrations: {{chat: {{bot_token: {{a: {SECRET}}}}}}}",
        f"integrations: {{chat: {{bot_token: *{SECRET}}}}}",
        f"integrations: {{chat: {{bot_token: !{SECRET} x}}}}",
        f"integrations: {{chat: {{bot_token: !{SECRET}!x y}}}}",
        f'integrations: {{chat: {{bot_token: "{SECRET}}}}}',
        f"integrations: {{chat: {{style: {SECRET}, bot_token: x}}}}",
        f"integrations: {{chat: {{enabled: {SECRET}}}}}",
        f"integrations: {{log: {{topics: ['{SECRET.upper()}', '${{TOKEN}} ']}}}}",
        f"gateway: {{api_keys: {SECRET}}}",
        f"gateway: {{port: {SECRET}}}",
        f"events: {{url: 'redis://:{SECRET}/x@host:6379'}}",
        f"events: {{url: '{SECRET}'}}",
        f"events: {{provider: redis, redis: {{addr: '{SECRET}@host'}}}}",
        f"events: {{provider: redis, redis: {{password: [{SECRET}]}}}}",
    ],
)
def test_no_fault_quotes_a_value(loaded: Load, text: str) -> None:
    assert faults(loaded, text, TOKEN=SECRET)  # `faults` looks for it in all that the error says


def test_settings_can_be_printed_without_giving_a_secret_away(loaded: Load) -> None:
    settings = loaded(
        """
        events: {url: "rediss://me:${TOKEN}@host:6380/2?password=${TOKEN}"}
        gateway: {api_keys: ["${TOKEN}"]}
        integrations: {chat: {bot_token: "${TOKEN}", hooks: [{url: "http://a", secret: "${TOKEN}"}]}}
        """,
        TOKEN=SECRET,
    )
    parts = Events.model_validate({"provider": "redis", "redis": {"username": "me", "password": SECRET}})
    shown = (repr(settings), str(settings), settings.model_dump_json(), settings.events.safe_url, repr(parts))
    assert SECRET not in "".join((*shown, parts.safe_url, str(parts.model_dump())))
    assert settings.events.safe_url == "rediss://host:6380/2"
    assert '"channel":"#general"' in settings.model_dump_json()  # an adapter's own settings are part of the dump


def test_a_section_made_in_code_is_checked_as_well() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1000") as caught:
        Worker(concurrency=1234567)
    assert "1234567" not in str(caught.value)


# -- topics ----------------------------------------------------------------------------------------------------------


class Asking(BaseModel):
    model_config = ConfigDict(extra="forbid")

    targets: dict[str, tuple[str, ...]]


class Counts(Log):
    manifest: ClassVar[Manifest] = Manifest(name="counts", title="Counts", config=Asking, handles=("task.*", "vm.*"))

    def targets(self) -> list[Target]:
        config: Any = self.config
        return [Target(name, topics) for name, topics in config.targets.items()]


@pytest.mark.parametrize(
    ("topics", "targets", "said"),
    [
        ("[task.*]", "{default: [task.failed, vm.*]}", []),
        ("[shop.*]", "{default: [task.failed, vm.*]}", ["leave out task.failed, vm.*, which counts asks for"]),
        ("[task.*]", "{default: [task.failed, shop.paid]}", ["leave out shop.paid, which counts asks for"]),
        ("['*.paid']", "{default: [task.failed, shop.paid]}", []),
        ("[task.*]", "{a: [task.failed], b: [vm.*]}", ["leave out vm.*, which the target b asks for"]),
        ("[routed.*]", "{default: [shop.paid]}", []),
    ],
)
def test_topics_that_leave_out_what_the_settings_ask_for_are_warned_of(
    tmp_path: Path, topics: str, targets: str, said: list[str]
) -> None:
    file = tmp_path / "eventbus.yaml"
    file.write_text(
        f"integrations:\n  counts:\n    targets: {targets}\n    topics: {topics}\n"
        + ("routes: {r: {topics: [shop.*], to: counts}}\n" if "routed" in topics else "")
    )
    _, warnings = load_with_warnings(file, ADAPTERS | {"counts": Adapter("counts", "ours", "1.0", Counts)}, {})
    end = ": nothing comes of it, unless you add it here"
    assert [(one.line, one.dotted, one.message) for one in warnings] == [
        (4, "integrations.counts.topics", text + end) for text in said
    ]
