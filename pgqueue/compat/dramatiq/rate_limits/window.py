"""WindowRateLimiter: where Dramatiq has it."""

from pgqueue.compat.dramatiq.rate_limits import WindowRateLimiter

__all__ = ["WindowRateLimiter"]
