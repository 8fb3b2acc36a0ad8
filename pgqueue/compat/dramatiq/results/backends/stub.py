"""`StubBackend`: the database of the broker."""

from pgqueue.compat.dramatiq.results.backends import StubBackend

__all__ = ["StubBackend"]
