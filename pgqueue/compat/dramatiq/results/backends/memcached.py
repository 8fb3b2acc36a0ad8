"""`MemcachedBackend`: the database of the broker."""

from pgqueue.compat.dramatiq.results.backends import MemcachedBackend

__all__ = ["MemcachedBackend"]
