"""Apps and tasks: where Celery has them."""

from pgqueue.compat.celery.application import Celery
from pgqueue.compat.celery.making import shared_task

__all__ = ["Celery", "shared_task"]
