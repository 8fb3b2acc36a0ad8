"""Helpers for testing programs that use pgqueue."""

from pgqueue.testing.rerun import runs_twice

__all__ = ["runs_twice"]
