"""The statements by which Django's own connection reads results: pgqueue's views, as from any SQL.

Django writes its parameters as `%s`, for whatever driver it has, so these are not among the files of sql/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import ProgrammingError

from pgqueue.errors import SchemaError
from pgqueue.integrations.django.settings import BackendSettings, checked_connection

_MISSING: Final = frozenset({"3F000", "42P01", "42883", "42703"})
"""What says that it is undefined: a schema, a table, a function, a column."""
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
    with schema_errors(settings.database, settings.schema), connection.cursor() as cursor:
        cursor.execute(sql.format(schema=connection.ops.quote_name(settings.schema)), parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


@contextmanager
def schema_errors(database: str, schema: str) -> Iterator[None]:
    """Raise SchemaError where Django says that something of the schema is not there."""
    try:
        yield
    except ProgrammingError as error:
        if getattr(error.__cause__, "sqlstate", None) in _MISSING:
            raise missing_schema(database, schema) from error
        raise


def missing_schema(database: str, schema: str) -> SchemaError:
    """Return the error of a database that the schema is not in, or not whole."""
    return SchemaError(
        f"database {database!r} has no schema {schema!r} of pgqueue, or an older one; run `manage.py "
        "migrate`, or `manage.py pgqueue_migrate`"
    )


def _decoded(stored: str | None) -> Any:
    return None if stored is None else json.loads(stored)
