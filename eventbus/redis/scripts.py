"""Loads `lua/*.lua` and runs them: EVALSHA, and EVAL where the server does not know the script yet.

A script is known by the hash of its text, so workers of two releases run their own side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from redis.exceptions import NoScriptError

_OF_GROUPS = (
    "declare",
    "take",
    "settle",
    "retry",
    "bury",
    "sweep",
    "recover",
    "mend",
    "lanes",
    "backlog",
    "redrive",
    "replay",
    "retire",
)
_PRELUDES = {
    **dict.fromkeys(("publish", "schedule"), ("once",)),
    **dict.fromkeys(("trim", "check"), ("numbers",)),
    **dict.fromkeys(_OF_GROUPS, ("numbers", "common")),
}

Arg = str | bytes | int


class Script:
    """The text of one script and its hash."""

    def __init__(self, name: str, *, shebang: bool = True) -> None:
        folder = files("eventbus.redis") / "lua"
        first, _, body = (folder / f"{name}.lua").read_text().partition("\n")
        prelude = "".join((folder / f"{part}.lua").read_text() for part in _PRELUDES.get(name, ()))
        # fakeredis has a plain Lua interpreter, to which the flags line is a syntax error.
        self.text = f"{first}\n{prelude}{body}" if shebang else f"{prelude}{body}"
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str, *, shebang: bool = True) -> Script:
    """The script of this name."""
    return Script(name, shebang=shebang)


class AsyncClient(Protocol):
    """What a script needs of an asynchronous Redis client."""

    async def execute_command(self, *args: Any, **options: Any) -> Any: ...


class SyncClient(Protocol):
    """What a script needs of a synchronous Redis client."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...


async def run(client: AsyncClient, what: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
    """Run a script. Redis' own errors come through."""
    try:
        return await client.execute_command("EVALSHA", what.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await client.execute_command("EVAL", what.text, len(keys), *keys, *args)


def run_sync(client: SyncClient, what: Script, keys: Sequence[str], args: Sequence[Arg]) -> Any:
    """`run` for code without an event loop."""
    try:
        return client.execute_command("EVALSHA", what.sha, len(keys), *keys, *args)
    except NoScriptError:
        return client.execute_command("EVAL", what.text, len(keys), *keys, *args)
