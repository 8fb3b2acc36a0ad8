"""RateLimiter: where Dramatiq has it."""

from pgqueue.compat.dramatiq.rate_limits import RateLimiter

__all__ = ["RateLimiter"]
