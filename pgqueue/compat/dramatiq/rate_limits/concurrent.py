"""ConcurrentRateLimiter: where Dramatiq has it."""

from pgqueue.compat.dramatiq.rate_limits import ConcurrentRateLimiter

__all__ = ["ConcurrentRateLimiter"]
