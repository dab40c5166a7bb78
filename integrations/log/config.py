"""The settings of `log`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LogConfig(BaseModel):
    """How loud, and how much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The level of every line")
    include_data: bool = Field(
        default=False,
        description="Show payloads and contents, cut; they may hold what does not belong into a log",
    )
