"""Retries: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import Retries

__all__ = ["Retries"]
