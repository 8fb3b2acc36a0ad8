"""ResultBackend: where Dramatiq has it."""

from pgqueue.compat.dramatiq.results import ResultBackend

__all__ = ["ResultBackend"]
