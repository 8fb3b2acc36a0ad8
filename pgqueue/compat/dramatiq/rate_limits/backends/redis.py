"""`RedisBackend`: the database of the broker."""

from pgqueue.compat.dramatiq.rate_limits.backends import RedisBackend

__all__ = ["RedisBackend"]
