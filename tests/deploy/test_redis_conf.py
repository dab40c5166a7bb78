"""deploy/redis/redis.conf: a server that starts with it has nothing to be mended."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbus.doctor import diagnose
from eventbus.redis import server, survey
from eventbus.redis.connection import Connection
from eventbus.redis.keys import ShardKeys
from tests.deploy.servers import running
from tests.servers import BINARIES

CONF = Path(__file__).parents[2] / "deploy" / "redis" / "redis.conf"
NOT_OURS = {"security", "rights"}
"""What a version lacks, and what a server without users lets anybody do, no setting of this file can mend."""


@pytest.mark.parametrize("version", sorted(BINARIES))
async def test_the_doctor_finds_nothing_to_mend_in_the_recommended_settings(version: str, tmp_path: Path) -> None:
    with running(BINARIES[version], tmp_path, "--include", str(CONF)) as port:
        connection = await Connection.open(f"redis://127.0.0.1:{port}/0")
        try:
            await server.check(connection)
            found = diagnose(await server.read(connection), await survey.look(connection, ShardKeys()))
        finally:
            await connection.close()
    wrong = [one.what for one in found.findings if one.level in ("warn", "bad") and one.about not in NOT_OURS]
    assert wrong == []
    assert next(one.what for one in found.findings if one.about == "disk").endswith("(everysec)")
