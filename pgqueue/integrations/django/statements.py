"""The statements that Django's own connection sends: pgqueue's functions and views, as from any SQL.

Django writes its parameters as `%s`, for whatever driver it has, so these are not among the files of sql/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import DataError, ProgrammingError, transaction

from pgqueue.errors import InvalidOptionError, SchemaError
from pgqueue.integrations.django.settings import BackendSettings, checked_connection

_ENQUEUE: Final = """
select {schema}.enqueue(
    %s::text, %s::json, queue => %s::text, priority => %s::integer, run_at => %s::timestamptz,
    delay => make_interval(secs => %s::double precision), tags => %s::text[],
    expires_at => coalesce(%s::timestamptz, now() + make_interval(secs => %s::double precision))), now()
"""
_READ: Final = """
select job.status::text, job.queue, job.priority, job.task, job.arguments::text, job.created_at,
       job.started_at, job.completed_at, job.run_at, job.worker, job.result::text, job.reason,
       job.error::text, running.started_at
from {schema}.jobs as job left join {schema}.running on running.job_id = job.id
where job.id = %s::uuid
"""
_READ_ATTEMPTS: Final = """
select started_at, worker, reason, error::text from {schema}.attempt where job_id = %s::uuid order by id
"""


@dataclass(frozen=True, slots=True)
class ReadAttempt:
    """An attempt that did not succeed."""

    started_at: datetime | None
    worker: str | None
    reason: str
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ReadJob:
    """A job, as the database has it."""

    status: str
    queue: str
    priority: int
    task: str
    arguments: Mapping[str, Any]
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    run_at: datetime | None
    worker: str | None
    result: Any
    reason: str | None
    error: Mapping[str, Any] | None
    runs_since: datetime | None
    """When the attempt that is running started."""
    attempts: Sequence[ReadAttempt]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to write."""

    task: str
    arguments: str
    queue: str
    priority: int
    run_at: datetime | None
    delay: float | None
    """Seconds, unless `run_at` is given."""
    expires: datetime | float | None
    """When, or in so many seconds."""
    tags: Sequence[str]


def enqueue(settings: BackendSettings, job: NewJob) -> tuple[UUID, datetime]:
    """Write a job in the transaction that Django has open, or at once; return its id, and when.

    A savepoint keeps the rest of the transaction whole if the write fails. Raises SchemaError,
    InvalidOptionError, and what Django raises.
    """
    connection = checked_connection(settings.database)
    block = transaction.atomic(using=settings.database) if connection.in_atomic_block else nullcontext()
    at, within = (job.expires, None) if isinstance(job.expires, datetime) else (None, job.expires)
    with block:
        [row] = _run(
            settings,
            _ENQUEUE,
            [
                *(job.task, job.arguments, job.queue, job.priority, job.run_at, job.delay),
                *(list(job.tags) or None, at, within),
            ],
        )
    job_id, written_at = row
    return UUID(str(job_id)), written_at


def read(settings: BackendSettings, job_id: UUID) -> ReadJob | None:
    """Read a job; None: there is none. Raises SchemaError, and what Django raises."""
    rows = _run(settings, _READ, [str(job_id)])
    if not rows:
        return None
    plain: list[Any]
    *plain, error, runs_since = rows[0]
    attempts = [
        ReadAttempt(started_at, worker, reason, _decoded(stored))
        for started_at, worker, reason, stored in _run(settings, _READ_ATTEMPTS, [str(job_id)])
    ]
    plain[4], plain[10] = json.loads(plain[4]), _decoded(plain[10])
    return ReadJob(*(*plain, _decoded(error), runs_since, attempts))


def _run(settings: BackendSettings, sql: str, parameters: list[object]) -> list[tuple[Any, ...]]:
    connection = checked_connection(settings.database)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql.format(schema=connection.ops.quote_name(settings.schema)), parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
    except DataError as error:
        if getattr(error.__cause__, "sqlstate", None) == "22023":
            # What the function refuses.
            raise InvalidOptionError(str(error).partition("\n")[0]) from error
        raise
    except ProgrammingError as error:
        # Undefined: a schema, a table, a function.
        if getattr(error.__cause__, "sqlstate", None) in ("3F000", "42P01", "42883"):
            raise SchemaError(
                f"database {settings.database!r} has no schema {settings.schema!r} of pgqueue, or an older "
                "one; run `manage.py migrate`, or `manage.py pgqueue_migrate`"
            ) from error
        raise
    return rows


def _decoded(stored: str | None) -> Any:
    return None if stored is None else json.loads(stored)
