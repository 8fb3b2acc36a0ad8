"""What a handler can know of the job that it runs."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Protocol
from uuid import UUID


class JobContext:
    """The running job, for its handler: declare a parameter of this type and it is passed.

    Code further down the stack asks `current_job()`.
    """

    __slots__ = ("_headers", "attempt", "job_id", "key", "losses", "priority", "queue", "task", "worker")

    def __init__(
        self,
        *,
        job_id: UUID,
        task: str,
        queue: str,
        priority: int,
        attempt: int,
        losses: int,
        key: str | None,
        headers: str | None,
        worker: str,
    ) -> None:
        self.job_id = job_id
        self.task = task
        self.queue = queue
        self.priority = priority
        self.attempt = attempt
        """1 for the first execution. Attempts lost with their worker are not counted."""
        self.losses = losses
        """How often the job was given back because its worker was lost."""
        self.key = key
        self.worker = worker
        self._headers = headers

    @property
    def retries(self) -> int:
        """0 for the first execution."""
        return self.attempt - 1

    @property
    def headers(self) -> dict[str, str]:
        """What the caller sent along."""
        return dict(json.loads(self._headers)) if self._headers else {}

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this job, and no other job's: for services that deduplicate."""
        return str(self.job_id)

    def __repr__(self) -> str:
        return f"<JobContext {self.task} {self.job_id}, attempt {self.attempt}>"


class HasContext(Protocol):
    """An attempt, as far as the code that it runs may ask for it."""

    @property
    def context(self) -> JobContext:
        """The context of the attempt's job."""


# Holds the attempt and not its context: most handlers never ask, and need none made.
running_attempt: ContextVar[HasContext | None] = ContextVar("pgqueue_running_attempt", default=None)


def current_job() -> JobContext:
    """Return the context of the job that this code runs for. Raises RuntimeError outside of a job."""
    attempt = running_attempt.get()
    if attempt is None:
        raise RuntimeError("no job is running here: current_job() works inside a task's handler")
    return attempt.context
