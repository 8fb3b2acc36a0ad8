"""The backend of Django's Tasks framework."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured

from pgqueue.app import MAX_PAYLOAD
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
from pgqueue.integrations.django.running import declare, queue
from pgqueue.integrations.django.settings import BackendSettings, checked_connection, read_settings
from pgqueue.options.levels import read_options
from pgqueue.options.table import Level
from pgqueue.tasks.payload import check_payload

NOT_WRITTEN: Final = frozenset(
    {
        *("headers", "idempotency_key", "idempotency_window", "idempotency_scope", "idempotency_while"),
        *("idempotency_fingerprint", "on_conflict"),
    }
)
"""Options that only Python programs of pgqueue heed when they enqueue: Django's connection does it by SQL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PgQueueTask(Task):  # type: ignore[misc]
    """A task of Django's with options of pgqueue's: `@task(options={"max_retries": 3, "timeout": 60})`."""

    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Options of a task: see docs/reference/options.md. From Django 6.1 on, and with django_tasks."""


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
        options = getattr(task, "options", {})
        try:
            read_options(f"task {task.name!r}", options, Level.TASK)
        except PgQueueError as error:
            raise InvalidTask(str(error)) from error
        if lost := sorted(NOT_WRITTEN & options.keys()):
            raise InvalidTask(
                f"task {task.name!r}: option {lost[0]!r} has no effect where Django enqueues; declare a task "
                "of pgqueue's own, by pgqueue.integrations.django.queue().task"
            )
        declare(task)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Write a job in the transaction that Django has open, or at once; return its result so far.

        Raises InvalidTask; TypeError and ValueError for arguments that are not JSON, InvalidArgumentsError
        and PayloadTooLargeError for those that cannot be stored; SchemaError before the first migration; and
        Django's own errors.
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
        given = {"args": result.args, "kwargs": result.kwargs}
        encoded = json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
        path, registry = task.module_path, queue(self.alias).registry
        call = read_options(f"task {path!r}", {"queue": task.queue_name}, Level.CALL)
        options = registry.resolve(path, registry.get(path), call)
        job_id, at = statements.enqueue(
            self.settings,
            statements.NewJob(
                task=path,
                arguments=check_payload(path, encoded, MAX_PAYLOAD),
                queue=task.queue_name,
                priority=task.priority,
                run_at=task.run_after,
                delay=options["delay"],
                expires=options["expires"],
                tags=options["tags"],
            ),
        )
        object.__setattr__(result, "id", str(job_id))
        object.__setattr__(result, "enqueued_at", at)
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
