"""What `create_artifact` takes: the content of a pull request, an issue and a comment."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from integrations.github.place import OWNER, Place

Text = Annotated[str, Field(min_length=1, max_length=255)]


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str = Field(pattern=rf"^{OWNER}$", description="User or organisation")
    # pydantic's regular expressions have no look-ahead: the two names that are paths are refused one by one
    repo: str = Field(
        pattern=r"^(?:[A-Za-z0-9_-]|\.[A-Za-z0-9_-]|\.\.[A-Za-z0-9._-])[A-Za-z0-9._-]{0,99}$",
        description="Repository, without its owner",
    )

    @property
    def repository(self) -> str:
        """owner/name, as the API writes it."""
        return f"{self.owner}/{self.repo}"


class _Titled(_Content):
    # GitHub answers 422 "title is too long (maximum is 256 characters)".
    title: str = Field(min_length=1, max_length=256, description="One line")
    body: str = Field(default="", description="Markdown, used as it is; cut at GitHub's limit")


class PullRequest(_Titled):
    """A new pull request (docs.github.com/rest/pulls/pulls, "Create a pull request")."""

    head: Text = Field(description="Branch with the changes; user:branch where it is in a fork")
    base: Text = Field(description="Branch to merge into")
    draft: bool = Field(default=False, description="Not ready for review yet")

    @property
    def qualified_head(self) -> str:
        """`user:branch`, the form that listing pull requests filters by."""
        return self.head if ":" in self.head else f"{self.owner}:{self.head}"


class Issue(_Titled):
    """A new issue (docs.github.com/rest/issues/issues, "Create an issue")."""

    labels: tuple[Text, ...] = Field(default=(), max_length=100, description="Names of labels")
    # "Adds up to 10 assignees to an issue" (docs.github.com/rest/issues/assignees)
    assignees: tuple[Text, ...] = Field(default=(), max_length=10, description="Logins")


class Comment(_Content):
    """A new comment on an issue or a pull request."""

    number: int = Field(ge=1, description="Of the issue or pull request")
    body: str = Field(min_length=1, description="Markdown, used as it is; cut at GitHub's limit")

    @property
    def place(self) -> Place:
        """What it is put under."""
        return Place(self.repository, self.number)
