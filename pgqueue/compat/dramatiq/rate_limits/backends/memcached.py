"""`MemcachedBackend`: the database of the broker."""

from pgqueue.compat.dramatiq.rate_limits.backends import MemcachedBackend

__all__ = ["MemcachedBackend"]
