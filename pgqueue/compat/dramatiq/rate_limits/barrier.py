"""Barrier: where Dramatiq has it."""

from pgqueue.compat.dramatiq.rate_limits import Barrier

__all__ = ["Barrier"]
