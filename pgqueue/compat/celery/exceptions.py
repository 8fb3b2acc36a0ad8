"""The exceptions of Celery that tasks raise, and that results raise.

Retry, Ignore, Reject and SoftTimeLimitExceeded are those of pgqueue: `except Exception` in a task does not
catch them, which it does under Celery.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pgqueue import DatabaseUnavailableError as OperationalError
from pgqueue import Reject as _Reject
from pgqueue import Retry as _Retry
from pgqueue import SoftTimeLimitExceeded

SAID = "ignored by the task"
"""What Ignore says: no reject of a task's own has these words."""


class CeleryError(Exception):
    """Base of the exceptions that are errors."""


class ImproperlyConfigured(CeleryError):  # noqa: N818  # Celery's name
    """An app is set up wrongly."""


class TaskError(CeleryError):
    """Base of the errors of tasks."""


class NotRegistered(KeyError, CeleryError):  # noqa: N818  # Celery's name
    """No task has this name here."""


class TimeoutError(CeleryError, builtins.TimeoutError):  # noqa: A001  # Celery's name
    """A result was not there in time. The task goes on."""


class MaxRetriesExceededError(TaskError):
    """`self.retry()` was called once more than the task may be retried."""

    def __init__(
        self, *args: Any, task_args: Sequence[Any] = (), task_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.task_args = task_args
        self.task_kwargs = task_kwargs or {}
        super().__init__(*args)


class TaskRevokedError(CeleryError):
    """The task was revoked, or has expired, and has no result."""


class BackendError(CeleryError):
    """Base of the errors of results."""


class InvalidTaskError(CeleryError):
    """A task cannot be read."""


class ChordError(CeleryError):
    """A task of a chord's header has failed, so its body does not run."""


class TimeLimitExceeded(CeleryError):  # noqa: N818  # Celery's name
    """The task ran past its hard time limit."""


class WorkerLostError(CeleryError):
    """The process that ran the task has died."""


class Retry(_Retry):
    """The task is to run again. Raised by `self.retry()`."""

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | None = None,
        when: float | timedelta | datetime | None = None,
        *,
        is_eager: bool = False,
        max_retries: int | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        eta = when if isinstance(when, datetime) else None
        countdown = None if isinstance(when, datetime) else when
        super().__init__(exc, countdown=countdown, eta=eta, max_retries=max_retries, args=args, kwargs=kwargs)
        self.message = message
        self.when = when
        self.is_eager = is_eager

    def __str__(self) -> str:
        if self.message:
            return self.message
        when = f"in {self.when}s" if isinstance(self.when, int | float) else f"at {self.when}"
        return f"Retry {when}: {self.exc!r}" if self.exc is not None else f"Retry {when}"


class Ignore(_Reject):
    """The task ends, and nothing is made of it: neither a success nor a failure."""

    def __init__(self, reason: object = None) -> None:  # noqa: ARG002  # as there
        super().__init__(SAID)


class Reject(_Reject):
    """The task is not to run: it is a dead letter at once, or returns to the queue if *requeue* is set."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        self.requeue = requeue
        super().__init__("rejected" if reason is None else str(reason))


__all__ = [
    "BackendError",
    "CeleryError",
    "ChordError",
    "Ignore",
    "ImproperlyConfigured",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotRegistered",
    "OperationalError",
    "Reject",
    "Retry",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
]
