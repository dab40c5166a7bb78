"""Its settings. Secrets are SecretStr: no repr, log line or error shows them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class TicketsConfig(BaseModel):
    """One account at Acme Tickets."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str = Field(
        default="https://tickets.acme.example", pattern=r"^https?://[^\s?#]+[^\s?#/]$", description="Where the API is"
    )
    token: SecretStr = Field(min_length=1, description="API token with the right to write tickets")
    queue: str = Field(min_length=1, description="The queue that new tickets go to")
    priority: Literal["low", "normal", "urgent"] = Field(
        default="normal", description="Of tickets for failed tasks: low, normal or urgent"
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Signs the webhooks that Acme Tickets sends us; without it none is taken",
    )
