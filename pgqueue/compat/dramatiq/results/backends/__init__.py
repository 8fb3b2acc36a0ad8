"""Backends of results: all are the database of the broker."""

from pgqueue.compat.dramatiq.results import ResultBackend

RedisBackend = MemcachedBackend = StubBackend = ResultBackend

__all__ = ["MemcachedBackend", "RedisBackend", "ResultBackend", "StubBackend"]
