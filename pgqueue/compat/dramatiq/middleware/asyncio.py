"""AsyncIO: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import AsyncIO

__all__ = ["AsyncIO"]
