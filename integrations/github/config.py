"""The settings of one GitHub account. Secrets are SecretStr, and no validation error repeats what was given."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from integrations.fields import NonEmptySecret, Secret, Text


def _address(value: str | None) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is an address such as https://github.example.com/api/v3, without ? and #")
    if parts.username is not None:
        raise ValueError("must hold no user or password: set `token`")
    return value.rstrip("/")


HOOK = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}(?:/[A-Za-z0-9._-]{0,99}[A-Za-z0-9_-])?/[0-9]{1,20}$"

RECOVER_EVERY = timedelta(minutes=15)
"""A lost webhook is at most so old when it is asked for again; a look is one request for each hundred a day."""


class GitHubConfig(BaseModel):
    """One account of GitHub or GitHub Enterprise: a personal access token, or an installation of a GitHub App."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True)

    token: Secret = Field(default=None, description="Personal access token; or set the four fields of a GitHub App")
    app_id: Text = Field(default=None, description="App ID or client ID of the GitHub App")
    installation_id: Annotated[int | None, Field(ge=1)] = Field(
        default=None, description="The number at the end of the installation's address"
    )
    private_key: Secret = Field(default=None, description="The App's private key, PEM; \\n may stand for a line end")
    private_key_file: Path | None = Field(default=None, description="The file with that key, instead of private_key")
    webhook_secret: Secret = Field(
        default=None, description="Secret of the webhook; without it everything inbound is refused"
    )
    previous_webhook_secrets: tuple[NonEmptySecret, ...] = Field(
        default=(), max_length=5, description="Still accepted while webhook_secret is being replaced"
    )
    marker_secret: Secret = Field(
        default=None,
        description="Signs the hidden marker of what we make; default: derived from webhook_secret. Keep it unchanged",
    )
    base_url: Annotated[str, AfterValidator(_address)] = Field(
        default="https://api.github.com", description="The REST API; of GitHub Enterprise Server https://HOST/api/v3"
    )
    web_url: Annotated[str | None, AfterValidator(_address)] = Field(
        default=None, description="Where people read; default: made from base_url"
    )

    allow_mentions: bool = Field(
        default=False,
        description="Use titles and bodies of artifacts as they are; else they mention nobody and refer to nothing",
    )
    hooks: tuple[Annotated[str, Field(pattern=HOOK)], ...] = Field(
        default=(),
        max_length=100,
        description="Webhooks whose lost deliveries are asked for again, as owner/repo/ID or organisation/ID; "
        "a GitHub App's own needs no entry",
    )
    recover_every: Annotated[float, Field(ge=60, le=86_400)] | Literal[0] | None = Field(
        default=None,
        description="Seconds between looks for lost webhooks, once over all workers; 0: only people look; default: "
        "900 where webhook_secret is set, and `hooks` or a GitHub App",
    )

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        app = {name: getattr(self, name) for name in ("app_id", "installation_id", "private_key", "private_key_file")}
        given = [name for name, value in app.items() if value is not None]
        if self.token is not None and given:
            raise ValueError(f"has token and {', '.join(given)}: sign in one way, with the token or as a GitHub App")
        if self.token is None and not given:
            raise ValueError("needs token; or, for a GitHub App, app_id, installation_id and private_key")
        if self.token is None:
            self._check_app(given)
        return self

    def _check_app(self, given: list[str]) -> None:
        missing = [name for name in ("app_id", "installation_id") if name not in given]
        keys = [name for name in ("private_key", "private_key_file") if name in given]
        if not keys:
            missing.append("private_key (or private_key_file)")
        if missing:
            raise ValueError(f"signs in as a GitHub App, which also needs {', '.join(missing)}")
        if len(keys) == 2:
            raise ValueError("has private_key and private_key_file: keep one of them")

    @property
    def web(self) -> str:
        """Scheme and host that people's links begin with. The API of github.com and ghe.com is on `api.` before it."""
        if self.web_url is not None:
            return self.web_url
        parts = urlsplit(self.base_url)
        host = parts.netloc if parts.path else parts.netloc.removeprefix("api.")
        return f"{parts.scheme}://{host}"

    @property
    def look_every(self) -> timedelta | None:
        """How often lost webhooks are looked for by the clock; None: they are not."""
        if self.recover_every is None:
            has_hooks = self.webhook_secret is not None and bool(self.hooks or self.app_id)
            return RECOVER_EVERY if has_hooks else None
        return timedelta(seconds=self.recover_every) or None

    @property
    def webhook_secrets(self) -> tuple[SecretStr, ...]:
        """Every secret that a webhook may be signed with, the newest first; empty where none may."""
        return () if self.webhook_secret is None else (self.webhook_secret, *self.previous_webhook_secrets)
