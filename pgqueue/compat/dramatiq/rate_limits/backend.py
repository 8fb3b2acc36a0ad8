"""RateLimiterBackend: where Dramatiq has it."""

from pgqueue.compat.dramatiq.rate_limits import RateLimiterBackend

__all__ = ["RateLimiterBackend"]
