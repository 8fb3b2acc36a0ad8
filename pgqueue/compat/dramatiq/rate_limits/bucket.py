"""BucketRateLimiter: where Dramatiq has it."""

from pgqueue.compat.dramatiq.rate_limits import BucketRateLimiter

__all__ = ["BucketRateLimiter"]
