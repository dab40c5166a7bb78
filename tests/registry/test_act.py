"""A call into an adapter: it ends no program, and what its errors say holds no secret."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from integrations.errors import Unreachable
from integrations.redact import INSTEAD, Redactor
from registry.act import contained
from registry.judgement import describe

SECRET = "hunter2-hunter2-0001"


class Settings(BaseModel):
    token: SecretStr = SecretStr(SECRET)


class Odd(Exception):
    """Says what is not among its arguments."""

    def __str__(self) -> str:
        return f"odd: {SECRET}"


def invalid() -> ValidationError:
    class Count(BaseModel):
        n: int

    with pytest.raises(ValidationError) as caught:
        Count.model_validate({"n": SECRET})
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        Unreachable(f"{SECRET} was refused"),
        ValueError(f"{SECRET} was refused"),
        FileNotFoundError(2, "No such file", f"/run/{SECRET}"),
        invalid(),
        Odd(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_no_error_tells_a_secret(error: Exception) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(Exception, match=r".*") as caught:
        await contained(call(), Redactor(Settings()))
    assert SECRET not in describe(caught.value)
    assert INSTEAD in describe(caught.value)


async def test_one_that_tries_to_end_the_program_has_a_fault() -> None:
    async def call() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match=r"SystemExit\(3\)"):
        await contained(call(), Redactor())
