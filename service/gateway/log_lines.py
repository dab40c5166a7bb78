"""`POST /api/v1/logs/query`: the newest log lines of all programs, for holders of an API key."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.gateway.body import read_json
from service.gateway.problems import Problem, invalid
from service.log_lines import Query, search
from service.wiring import Runtime


class LogRoutes:
    """The route that asks the journal."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def query(self, request: Request) -> Response:
        """Lines that fit, the newest first. 404 where the settings keep none."""
        settings = self._runtime.settings
        try:
            query = Query.model_validate(await read_json(request, settings.gateway.max_body_bytes))
        except ValidationError as error:
            raise invalid(error) from None
        if not settings.log.keep:
            raise Problem(404, "no log lines are kept: log.keep is 0 in the settings")
        found = await search(self._runtime.bus.journal, query)
        return JSONResponse({"lines": [line.document() for line in found.lines], "next": found.next})
