"""Prometheus: where Dramatiq has it."""

from pgqueue.compat.dramatiq.middleware import Prometheus

__all__ = ["Prometheus"]
