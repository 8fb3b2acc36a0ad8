"""`JobTimeoutException`, where RQ has it."""

from pgqueue.compat.rq.exceptions import JobTimeoutException

__all__ = ["JobTimeoutException"]
