"""`StubBackend`: the database of the broker."""

from pgqueue.compat.dramatiq.rate_limits.backends import StubBackend

__all__ = ["StubBackend"]
