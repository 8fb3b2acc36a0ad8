"""Statements that read, list, cancel and requeue jobs for callers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from json import dumps
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from pgqueue.events.kinds import JobMoved
from pgqueue.model.filters import FIRST_ID, JobFilter, StatusCount
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import Attempt, Job, JobStatus
from pgqueue.model.progress import decode_progress
from pgqueue.model.stored_json import decode_json
from pgqueue.model.waits import Standing
from pgqueue.store.base import Statements, job_moved
from pgqueue.store.values import Found, Requeued

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database.connection import Connection

T = TypeVar("T")


class JobStatements(Statements):
    """Statements that read, list, cancel and requeue jobs."""

    async def read_jobs(
        self, connection: Connection, ids: Iterable[UUID], *, longest: int | None = None
    ) -> dict[UUID, Job]:
        """Return the jobs with *ids* that exist.

        *longest*: results of more characters are left out, and only their size is known; None: none is.
        """
        rows = await self.read_job_rows(connection, ids, longest=longest)
        return {job_id: job_of(row) for job_id, row in rows.items()}

    async def read_job_rows(
        self, connection: Connection, ids: Iterable[UUID], *, longest: int | None = None
    ) -> dict[UUID, Record]:
        """Return the jobs with *ids* that exist, as `job_of` takes them. *longest*: see `read_jobs`."""
        rows = await connection.fetch(self._sql["read_jobs"], list(ids), longest)
        return {row["id"]: row for row in rows}

    async def read_versions(
        self, connection: Connection, ids: Iterable[UUID]
    ) -> dict[UUID, tuple[bool, str]]:
        """Return for each of *ids* that exists whether it has ended, and a version that changes with it."""
        rows = await connection.fetch(self._sql["read_versions"], list(ids))
        return {job_id: (is_terminal, version) for job_id, is_terminal, version in rows}

    async def is_day_removed(self, connection: Connection, job_id: UUID) -> bool:
        """Return whether all jobs from the day of *job_id* were removed."""
        return bool(await connection.fetchval(self._sql["is_day_removed"], job_id))

    async def explain_wait(self, connection: Connection, job_id: UUID, most: int) -> Standing | None:
        """Return where a job waits, counting what is before it to *most*; None: it does not wait."""
        row = await connection.fetchrow(self._sql["explain_wait"], job_id, most)
        return None if row is None else Standing(**dict(row.items()))

    async def read_attempts(self, connection: Connection, job_id: UUID) -> list[Attempt]:
        """Return a job's attempts that did not succeed, oldest first."""
        rows = await connection.fetch(self._sql["read_attempts"], job_id)
        return [
            Attempt(
                attempt=row["attempt"],
                started_at=row["started_at"],
                ended_at=row["ended_at"],
                worker=row["worker"],
                version=row["version"],
                reason=row["reason"],
                error=read_error(row["error"]),
            )
            for row in rows
        ]

    async def list_jobs(
        self, connection: Connection, chosen: JobFilter, low: UUID, high: UUID, *, looks: int, limit: int
    ) -> Found:
        """Look at the *looks* newest jobs of a range of ids; find up to *limit* that match the filter."""
        sql = self._sql["list_by_status"] if chosen.has_tables else self._sql["list_jobs"]
        row = await connection.fetchrow(
            sql,
            *self._criteria(chosen),
            looks,
            low,
            high,
            limit,
            *(() if chosen.has_tables else chosen.window),
        )
        assert row is not None
        return Found._make(row)

    async def count_jobs(
        self, connection: Connection, chosen: JobFilter, most: int, *, is_plain: bool
    ) -> dict[JobStatus, StatusCount]:
        """Count the jobs in each status that match the filter but for its statuses and its search.

        *most*: how many of each are looked at. *is_plain*: nothing else is set in the filter.
        """
        _, *arguments, _ = chosen.as_arguments()
        rows = await connection.fetch(self._sql["count_jobs"], *arguments, most, *chosen.window, is_plain)
        return {JobStatus(status): StatusCount(jobs, is_more) for status, jobs, is_more in rows}

    async def edit_job(
        self,
        connection: Connection,
        job_id: UUID,
        *,
        queue: str | None,
        priority: int | None,
        run_at: datetime | None,
        arguments: str | None,
        gates: Iterable[tuple[str, str]] | None,
        reason: str | None,
        actor: str | None,
    ) -> None:
        """Change a waiting job; what is None stays as it is. *gates*: what it passes then; None: unknown."""
        document = None if arguments is None else self._document(arguments)
        passes = None if gates is None else dumps(list(gates))
        await connection.execute(
            self._sql["edit_job"], job_id, queue, priority, run_at, document, reason, actor, passes
        )

    def _criteria(self, chosen: JobFilter) -> list[object]:
        """Return the fields of a filter as statements take them; what it searches as it is stored."""
        *others, _ = chosen.as_arguments()
        return [*others, None if chosen.search is None else self._document(chosen.search)]

    async def list_owned(
        self, connection: Connection, owner: str, chosen: JobFilter, high: UUID, *, looks: int, limit: int
    ) -> Found:
        """Look at the *looks* newest jobs of *owner* up to *high*; find up to *limit* that match."""
        row = await connection.fetchrow(
            self._sql["list_owned"], *self._criteria(chosen), looks, FIRST_ID, high, limit, owner
        )
        assert row is not None
        return Found._make(row)

    async def cancel_jobs(
        self, connection: Connection, ids: Sequence[UUID], reason: str | None, actor: str | None
    ) -> tuple[list[JobMoved], list[JobMoved]]:
        """Cancel the jobs that have not ended; return those that were waiting, and those that are running."""
        rows = await connection.fetch(self._sql["cancel_jobs"], ids, reason, actor)
        running = JobStatus.RUNNING
        return (
            [job_moved(row, JobStatus.CANCELLED) for row in rows if row["answer"] == "cancelled"],
            [
                job_moved(row, running)._replace(before=running)
                for row in rows
                if row["answer"] == "requested"
            ],
        )

    async def run_now(
        self, connection: Connection, job_id: UUID, *, reason: str | None, actor: str | None
    ) -> bool:
        """Make a scheduled job pending; False: it is pending or running already."""
        return bool(await connection.fetchval(self._sql["run_now"], job_id, reason, actor))

    async def requeue_jobs(
        self,
        connection: Connection,
        ids: Sequence[UUID],
        statuses: Iterable[JobStatus],
        reason: str | None,
        actor: str | None,
        *,
        names_jobs: bool = False,
    ) -> Requeued:
        """Make ended jobs pending again. With *names_jobs*, the answer lists them."""
        row = await connection.fetchrow(
            self._sql["requeue_jobs"], ids, sorted(statuses), reason, actor, names_jobs
        )
        assert row is not None
        jobs = [
            JobMoved(UUID(job_id), task, queue, None, JobStatus.PENDING)
            for job_id, task, queue in decode_json(row["jobs"] or "[]")
        ]
        return Requeued(row["requeued"], row["lanes"], jobs)


class _Row:
    """Decodes the JSON of one job. Columns that cannot be decoded are noted, and the rest is read."""

    def __init__(self, row: Record) -> None:
        self._row = row
        self.undecodable: dict[str, str] = {}

    def read(self, column: str, decode: Callable[[str], T], otherwise: T) -> T:
        """Return a column decoded by *decode*, or *otherwise* if it is null or cannot be decoded."""
        stored = self._row[column]
        if stored is None:
            return otherwise
        try:
            return decode(stored)
        except ValueError as error:
            self.undecodable[column] = str(error)
            return otherwise


def job_of(row: Record) -> Job:
    """Return the job that *row* describes."""
    json = _Row(row)
    # Of a result that was left out, the size alone was read.
    size = row["result_size"] if row["result"] is None else len(row["result"])
    return Job(
        id=row["id"],
        # Without a place it waits to be put right, and without its lane nobody knows its queue.
        status=JobStatus(row["status"] or JobStatus.PENDING),
        queue=row["queue"] or "",
        priority=row["priority"] or 0,
        task=row["task"],
        arguments=json.read("arguments", decode_json, row["arguments"]),
        attempt=row["attempt"],
        losses=row["losses"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        next_run_at=row["next_run_at"],
        run_at=row["run_at"],
        expires_at=row["expires_at"],
        worker=row["worker"],
        result=json.read("result", decode_json, row["result"]),
        has_result=size is not None,
        result_size=size,
        reason=row["reason"],
        error=read_error(row["error"]),
        last_reason=row["last_reason"],
        last_error=read_error(row["last_error"]),
        tags=_texts_of(row["tags"]),
        key=row["key"],
        headers=json.read("headers", _texts, {}),
        progress=json.read("progress", decode_progress, None),
        options=json.read("options", _object, {}),
        read_at=row["read_at"],
        waits_for_limit=row["waits_for_limit"],
        raised_to=row["raised_to"],
        attempt_started_at=row["attempt_started_at"],
        attempt_ended_at=row["attempt_ended_at"],
        undecodable=json.undecodable,
    )


def _texts_of(tags: Sequence[Any] | None) -> tuple[str, ...]:
    """Return the texts in stored tags, which may hold nulls and lists."""
    return tuple(tag for tag in tags or () if isinstance(tag, str))


def _object(stored: str) -> dict[str, Any]:
    value = decode_json(stored)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004  # what is wrong is the document
    return value


def _texts(stored: str) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else dumps(value) for name, value in _object(stored).items()
    }


def read_error(stored: str | None) -> JobError | None:
    """Return the error that is stored, whoever wrote it."""
    if stored is None:
        return None
    try:
        value = decode_json(stored)
    except ValueError:
        value = None
    match value:
        case {"type": str() as kind, "message": str() as message}:
            traceback = value.get("traceback")
            return JobError(kind, message, traceback if isinstance(traceback, str) else None)
        case _:
            # Another program wrote it, so it is shown as it is.
            return JobError("unknown", stored)
