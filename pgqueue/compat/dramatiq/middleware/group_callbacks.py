"""GroupCallbacks: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import GroupCallbacks

__all__ = ["GroupCallbacks"]
