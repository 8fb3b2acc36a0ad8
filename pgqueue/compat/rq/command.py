"""Commands to workers."""

from __future__ import annotations

from typing import NoReturn

from pgqueue.compat import not_there
from pgqueue.compat.rq.connections import Redis
from pgqueue.compat.rq.job import Job


def send_stop_job_command(connection: Redis, job_id: str, serializer: object = None) -> None:
    """Have a running job stop: its function gets a CancelledError, or sees `is_stopped`."""
    del serializer
    connection.blocking.cancel(Job.fetch(job_id, connection).uuid, reason="stopped")


def send_shutdown_command(*_: object, **__: object) -> NoReturn:
    """Raise NotImplementedError."""
    raise not_there("send_shutdown_command", "send SIGTERM to the process of the worker")


def send_kill_horse_command(*_: object, **__: object) -> NoReturn:
    """Raise NotImplementedError."""
    raise not_there("send_kill_horse_command", "cancel the job: send_stop_job_command(connection, job_id)")
