"""`task.*`: a piece of work, from its request to its end. Ordered by task."""

from __future__ import annotations

from pydantic import Field, JsonValue

from eventbus.payload import Payload


class _Task(Payload):
    task_id: str = Field(description="Identifies the task; its events are handled in order")
    name: str | None = Field(default=None, description="What people call it")
    pull_request: str | None = Field(
        default=None, description="URL of the pull request it belongs to; results are commented there"
    )
    environment: str | None = Field(default=None, description="Where it runs: production, staging, ...")


class TaskCreated(_Task, topic="task.created", key="task_id"):
    """A task was asked for."""

    kind: str | None = Field(default=None, description="What is to be done, such as `create vm`")
    parameters: dict[str, JsonValue] = Field(default_factory=dict, description="Its arguments")
    requested_by: str | None = Field(default=None, description="Who asked")

    @classmethod
    def example(cls) -> TaskCreated:
        return cls(
            task_id="task-42", name="quick-test", kind="create vm", parameters={"name": "quick-test", "vcpus": 2}
        )


class TaskStarted(_Task, topic="task.started", key="task_id"):
    """Work on a task began."""

    worker: str | None = Field(default=None, description="Who took it")

    @classmethod
    def example(cls) -> TaskStarted:
        return cls(task_id="task-42", name="quick-test", worker="builder-1")


class TaskCompleted(_Task, topic="task.completed", key="task_id"):
    """A task ended well."""

    duration_ms: float | None = Field(default=None, ge=0, description="How long it ran, in milliseconds")
    result: JsonValue = Field(default=None, description="What came of it")

    @classmethod
    def example(cls) -> TaskCompleted:
        return cls(
            task_id="task-42", name="quick-test", pull_request="https://github.com/acme/api/pull/7", duration_ms=1834
        )


class TaskFailed(_Task, topic="task.failed", key="task_id"):
    """A task ended badly."""

    error: str = Field(description="What went wrong, for people")
    error_type: str | None = Field(default=None, description="Its class, for grouping")
    duration_ms: float | None = Field(default=None, ge=0, description="How long it ran, in milliseconds")

    @classmethod
    def example(cls) -> TaskFailed:
        return cls(
            task_id="task-42",
            name="quick-test",
            pull_request="https://github.com/acme/api/pull/7",
            error="2 of 310 tests failed",
            error_type="TestFailure",
        )
