"""`RedisBackend`: the database of the broker."""

from pgqueue.compat.dramatiq.results.backends import RedisBackend

__all__ = ["RedisBackend"]
