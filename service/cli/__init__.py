"""The command line: `eventbus`. One file per noun; what they share is `shell` (errors, exit codes) and `output`."""

from service.cli.app import main

__all__ = ["main"]
