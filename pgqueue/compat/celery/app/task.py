"""Task: where Celery has it."""

from pgqueue.compat.celery.task import Task

__all__ = ["Task"]
