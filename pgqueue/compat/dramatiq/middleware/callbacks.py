"""Callbacks: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import Callbacks

__all__ = ["Callbacks"]
