"""`migration.*`: a database or schema migration. Ordered by migration."""

from __future__ import annotations

from pydantic import Field

from eventbus.payload import Payload


class _Migration(Payload):
    migration: str = Field(description="Its name; its events are handled in order")
    version: str | None = Field(default=None, description="Its version, such as 20260112_1030")
    environment: str | None = Field(default=None, description="Where it runs: production, staging, ...")
    pull_request: str | None = Field(default=None, description="URL of the pull request it belongs to")
    pending: int | None = Field(default=None, ge=0, description="Migrations not applied yet, there and just then")


class MigrationStarted(_Migration, topic="migration.started", key="migration"):
    """A migration began."""

    @classmethod
    def example(cls) -> MigrationStarted:
        return cls(migration="add_user_email", environment="production")


class MigrationCompleted(_Migration, topic="migration.completed", key="migration"):
    """A migration was applied and committed."""

    duration_ms: float | None = Field(default=None, ge=0, description="How long it ran, in milliseconds")
    rows_affected: int | None = Field(default=None, ge=0, description="Rows it changed")

    @classmethod
    def example(cls) -> MigrationCompleted:
        return cls(migration="add_user_email", environment="production", duration_ms=2310)


class MigrationFailed(_Migration, topic="migration.failed", key="migration"):
    """A migration was not applied."""

    error: str = Field(description="What went wrong, for people")
    error_type: str | None = Field(default=None, description="Its class, for grouping and runbooks")
    duration_ms: float | None = Field(default=None, ge=0, description="How long it ran, in milliseconds")

    @classmethod
    def example(cls) -> MigrationFailed:
        return cls(
            migration="add_user_email",
            environment="production",
            error="lock timeout on users",
            error_type="TimeoutError",
        )


class MigrationRolledBack(_Migration, topic="migration.rolled_back", key="migration"):
    """A migration that had been applied was undone."""

    reason: str | None = Field(default=None, description="Why")

    @classmethod
    def example(cls) -> MigrationRolledBack:
        return cls(migration="add_user_email", environment="production", reason="p95 doubled")
