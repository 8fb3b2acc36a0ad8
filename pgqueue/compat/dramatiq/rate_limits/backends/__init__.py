"""Backends of rate limiters: all are the database of the broker."""

from pgqueue.compat.dramatiq.rate_limits import RateLimiterBackend

RedisBackend = MemcachedBackend = StubBackend = RateLimiterBackend

__all__ = ["MemcachedBackend", "RateLimiterBackend", "RedisBackend", "StubBackend"]
