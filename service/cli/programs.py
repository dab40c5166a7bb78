"""`eventbus worker`, `eventbus gateway`, `eventbus demo`: the programs that run until they are stopped or done.

Each is imported when it is asked for: a one-shot command need not wait for a web server to load.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from service import logs
from service.cli.shell import load_settings, run, settings_options


@click.command(epilog="\b\nExample:\n  eventbus worker --config config/production.yaml")
@settings_options
def worker(path: Path | None, url: str | None) -> None:
    """Serve the configured integrations until SIGTERM.

    Start as many as you like, on as many machines: they share the work and take over from one another.
    """
    from service.worker import run_worker

    settings = load_settings(path, url)
    logs.bind(program="worker")
    run(run_worker(settings))


@click.command(epilog="\b\nExample:\n  eventbus gateway --config config/production.yaml")
@settings_options
def gateway(path: Path | None, url: str | None) -> None:
    """Receive webhooks and REST calls over HTTP until SIGTERM."""
    from service.gateway.app import run_gateway

    settings = load_settings(path, url)
    logs.bind(program="gateway")
    run(run_gateway(settings))


@click.command(epilog="\b\nExamples:\n  eventbus demo\n  eventbus demo --keep")
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, to play with; Ctrl-C ends it.")
def demo(keep: bool) -> None:
    """Show the whole journey on this machine.

    Starts Redis, a worker, a gateway, and stand-ins of Slack, GitHub and a receiver. Publishes events, receives a
    signed GitHub webhook and a Slack command, kills the worker in the middle, and shows what each integration did. Exit
    code 1 when anything did not arrive once.
    """
    from service.demo import run_demo

    sys.exit(run(run_demo(keep=keep)))
