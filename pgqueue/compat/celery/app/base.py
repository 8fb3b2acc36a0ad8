"""Celery: where Celery has it."""

from pgqueue.compat.celery.application import Celery

__all__ = ["Celery"]
