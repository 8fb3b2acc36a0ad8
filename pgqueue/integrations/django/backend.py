"""The backend of Django's Tasks framework."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured

from pgqueue.errors import PgQueueError
from pgqueue.integrations.django import statements
from pgqueue.integrations.django.framework import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    signals,
)
from pgqueue.integrations.django.results import result_of
from pgqueue.integrations.django.running import call_of, check_options, declare, queue
from pgqueue.integrations.django.settings import BackendSettings, checked_connection, read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PgQueueTask(Task):  # type: ignore[misc]
    """A task of Django's with options of pgqueue's: `@task(options={"max_retries": 3, "timeout": 60})`."""

    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options of a task: see docs/reference/options.md. From Django 6.1 on, and with django_tasks.

    Also `limits`, `ordered_by` and `on_dead`, as `PgQueue.task` takes them.
    """


class PgQueueBackend(BaseTaskBackend):  # type: ignore[misc]
    """Keeps tasks in PostgreSQL, where workers of pgqueue find them. See this package.

    `OPTIONS`: `database`, `schema`, `dsn`, `migrate`, `dashboard`, `include`, and options of PgQueue such as
    `max_retries`, `timeout` or `retention`. `QUEUES` is what it is for every backend; if it is empty, any
    queue will do, and workers are told which by `--queues`.
    """

    task_class = PgQueueTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    @cached_property
    def settings(self) -> BackendSettings:
        """Its `OPTIONS`. Raises ImproperlyConfigured."""
        return read_settings(self.alias, self.options)

    def validate_task(self, task: Any) -> None:
        """Raise InvalidTask if the task is invalid for this backend. Workers know one that is valid."""
        super().validate_task(task)
        try:
            check_options(task)
            declare(task)
        except PgQueueError as error:
            raise InvalidTask(str(error)) from error

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Write a job in the transaction that Django has open, or at once; return its result so far.

        If it stands for a job that exists, by an idempotency key, the result is that job's. Raises
        InvalidTask; TypeError and ValueError for arguments that are not JSON, InvalidArgumentsError and
        PayloadTooLargeError for those that cannot be stored, QueueFullError; SchemaError before the first
        migration; what middleware raises; and Django's own errors.
        """
        self.validate_task(task)
        result = TaskResult(
            task=task,
            id="",
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=args,
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        # Neither NaN nor half a character is JSON.
        json.dumps([result.args, result.kwargs], allow_nan=False, ensure_ascii=False).encode()
        written = queue(self.alias).enqueue_here(call_of(self.alias, task, result.args, result.kwargs))
        if not written.created:
            return self.get_result(str(written.job_id))
        object.__setattr__(result, "id", str(written.job_id))
        object.__setattr__(result, "enqueued_at", written.at)
        signals.task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return the result of a job, as it is now. Raises TaskResultDoesNotExist."""
        try:
            job_id = UUID(str(result_id))
        except ValueError:
            raise TaskResultDoesNotExist(result_id) from None
        job = statements.read(self.settings, job_id)
        if job is None:
            raise TaskResultDoesNotExist(result_id)
        return result_of(str(job_id), job, self)

    def check(self, **_: Any) -> Iterable[CheckMessage]:
        """Yield what is wrong with the settings of this backend, for `manage.py check`."""
        try:
            checked_connection(self.settings.database)
            queue(self.alias)
        except (ImproperlyConfigured, PgQueueError, TypeError) as error:
            yield Error(f"TASKS[{self.alias!r}]: {error}", id="pgqueue.E001")
            return
        if not apps.is_installed("pgqueue.integrations.django"):
            yield CheckWarning(
                f"TASKS[{self.alias!r}] uses pgqueue, and its commands are missing.",
                hint="Add 'pgqueue.integrations.django' to INSTALLED_APPS.",
                id="pgqueue.W001",
            )
