"""The command line: `pgqueue`."""

from pgqueue.cli.app import app

__all__ = ["app"]
