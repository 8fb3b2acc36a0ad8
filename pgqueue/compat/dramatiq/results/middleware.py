"""Results: where Dramatiq has it."""

from pgqueue.compat.dramatiq.results import Results

__all__ = ["Results"]
