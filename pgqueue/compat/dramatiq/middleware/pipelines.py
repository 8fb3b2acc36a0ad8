"""Pipelines: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import Pipelines

__all__ = ["Pipelines"]
