"""The engine: claims jobs, runs them, writes how they ended, and keeps the queues moving."""

from pgqueue.worker.settings import WorkerSettings
from pgqueue.worker.worker import Worker

__all__ = ["Worker", "WorkerSettings"]
