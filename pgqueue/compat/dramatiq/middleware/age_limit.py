"""AgeLimit: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import AgeLimit

__all__ = ["AgeLimit"]
