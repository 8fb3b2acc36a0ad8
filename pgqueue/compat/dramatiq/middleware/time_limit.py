"""TimeLimit, TimeLimitExceeded: where Dramatiq has them."""

from pgqueue.compat.dramatiq.middleware import TimeLimit, TimeLimitExceeded

__all__ = ["TimeLimit", "TimeLimitExceeded"]
