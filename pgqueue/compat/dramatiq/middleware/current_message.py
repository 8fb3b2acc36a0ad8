"""CurrentMessage: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import CurrentMessage

__all__ = ["CurrentMessage"]
