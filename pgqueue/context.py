"""What a handler can know of the job that it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, NoReturn, Protocol
from uuid import UUID

from pgqueue.control import ControlFlow, Retry, Snooze
from pgqueue.options import UNSET, Duration, Unset

CheckCall = Callable[[tuple[Any, ...], Mapping[str, Any]], object]
"""Raises InvalidArgumentsError for arguments that do not fit the job's task."""


class JobContext:
    """The running job, for its handler: declare a parameter of this type and it is passed.

    Code further down the stack asks `current_job()`.
    """

    __slots__ = (
        "_check_call",
        "_headers",
        "attempt",
        "job_id",
        "key",
        "losses",
        "priority",
        "queue",
        "task",
        "worker",
    )

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
        check_call: CheckCall | None = None,
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
        self._check_call = check_call

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

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: Duration | None = None,
        eta: datetime | None = None,
        max_retries: int | None | Unset = UNSET,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """Have this job, under the same id, run again: always raises, so `raise ctx.retry(...)` reads well.

        *exc*: what went wrong, by default the exception being handled; it is kept with the attempt, and is
        the job's error if its retries are exhausted. *countdown*: when, in seconds or as timedelta; *eta*:
        when, as an aware time; neither: as the task's options say. *max_retries*: another limit, from now on;
        None is no limit. *args*, *kwargs*: the call that replaces the job's, whole.

        Raises InvalidArgumentsError for a call that does not fit the task, InvalidOptionError.
        """
        handled = sys.exception()
        if exc is None and not isinstance(handled, ControlFlow):
            exc = handled
        signal = Retry(exc, countdown=countdown, eta=eta, max_retries=max_retries, args=args, kwargs=kwargs)
        if signal.call is not None and self._check_call is not None:
            self._check_call(*signal.call)
        raise signal from exc

    def snooze(self, delay: Duration) -> NoReturn:
        """Have this job run again after *delay*, this attempt unspent: always raises. See `Snooze`."""
        raise Snooze(delay)

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
