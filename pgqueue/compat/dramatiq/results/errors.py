"""The errors of results, where Dramatiq has them."""

from pgqueue.compat.dramatiq.errors import ResultError, ResultFailure, ResultMissing, ResultTimeout

__all__ = ["ResultError", "ResultFailure", "ResultMissing", "ResultTimeout"]
