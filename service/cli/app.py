"""The command tree."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Any

import click

from service.cli.audit import audit
from service.cli.config import config
from service.cli.dead import dead
from service.cli.doctor import doctor
from service.cli.events import listen, publish, topics
from service.cli.explain import explain_
from service.cli.groups import groups
from service.cli.integrations import integrations
from service.cli.logs import logs
from service.cli.programs import demo, gateway, worker
from service.cli.replay import replay
from service.cli.routes import routes
from service.cli.schedules import schedules
from service.cli.silence import silence
from service.cli.unknown import unknown
from service.cli.webhooks import webhooks

EPILOG = """\b
First steps:
  eventbus demo                                     the whole journey on an embedded Redis, in half a minute
  eventbus worker                                   serve integrations (without a file: the log integration)
  eventbus publish vm.created '{"vm_id": "1"}'      publish, from another terminal
  eventbus listen 'vm.*'                            watch events as they come

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 nothing fits, 4 refused until you say so,
5 Redis can't be reached."""


class _Commands(click.Group):
    """Ends with 0 when the reader of our output has seen enough: `eventbus listen | head -1`."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left unflushed has no reader
            sys.exit(0)


@click.group(
    cls=_Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(metadata.version("eventbus-integrations"), prog_name="eventbus")
def main() -> None:
    """Publish a typed event once; every integration that cares acts on it, in order, once in effect."""


for command in (worker, gateway, publish, listen, topics, integrations, schedules, config, doctor, demo):
    main.add_command(command)
for command in (explain_, logs, routes, silence, dead, unknown, webhooks, groups, replay, audit):
    main.add_command(command)
