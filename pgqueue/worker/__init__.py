"""The engine: claims jobs, runs them, writes how they ended, and keeps the queues moving."""

from pgqueue.worker.worker import Worker, WorkerSettings

__all__ = ["Worker", "WorkerSettings"]
