"""Jobs: read, awaited, listed and cancelled, one or many."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pgqueue.client.parts import Parts
from pgqueue.errors import CodecError, InvalidFilterError
from pgqueue.events.kinds import CancelsRequested, JobMoved, JobsCancelled, JobsReopened
from pgqueue.model.filters import (
    FIRST_ID,
    JobFilter,
    Page,
    check_limit,
    decode_cursor,
    encode_cursor,
    read_statuses,
)
from pgqueue.model.jobs import TERMINAL, Attempt, Job, JobStatus
from pgqueue.store import Requeued, job_of
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.handle import JobHandle, raise_unless_succeeded

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

FIRST_LOOKS: Final = 200
MAX_LOOKS: Final = 10_000
"""Jobs that one page looks at, at first and at most."""
BATCH: Final = 500
"""Jobs in one transaction of a bulk operation."""


class JobInterface(Parts):
    """What a PgQueue lets its users do with jobs. `actor` is who asks for it, for the job's history."""

    # One

    async def get(self, job_id: UUID) -> Job:
        """Return a job as it is now. Raises JobNotFoundError, JobPurgedError.

        What of it cannot be decoded here is as it is stored, and named by its `undecodable`.
        """
        self._check_open()
        row = await self._reads.read(job_id)
        if row is None:
            async with self._database.acquire() as connection:
                raise await self._missing(connection, job_id)
        return self._completed(job_of(row))

    async def get_many(self, ids: Iterable[UUID]) -> dict[UUID, Job]:
        """Return those of the jobs with *ids* that exist, by id."""
        async with self._database.acquire() as connection:
            jobs = await self._store.read_jobs(connection, ids)
        return {job_id: self._completed(job) for job_id, job in jobs.items()}

    def shown_arguments(self, job: Job) -> Any:
        """Return the arguments of *job* as anybody may see them: without what the option `redact` names."""
        return self.registry.redact(job.task, job.queue, job.arguments)

    def handle(self, job_id: UUID) -> JobHandle[Any]:
        """Return a handle of a job known by its id. Asks nobody whether it exists."""
        return JobHandle(self, job_id, None)

    async def attempts(self, job_id: UUID) -> list[Attempt]:
        """Return a job's attempts that did not succeed, oldest first."""
        async with self._database.acquire() as connection:
            return await self._store.read_attempts(connection, job_id)

    async def wait(self, job_id: UUID) -> Job:
        """Wait until a job is over, and return it. Raises JobNotFoundError."""
        self._check_open()
        return self._completed(await self._watches.wait(job_id))

    def watch(self, job_id: UUID) -> AsyncGenerator[Job]:
        """Yield a job as it is now, and again whenever something about it changes, until it is over.

        `async for job in pgq.watch(job_id)`. Whoever is slow sees the latest state and misses those in
        between. Ends are seen at once, other changes within a second. However many watch in a process, they
        share a query a second and a listener. Raises JobNotFoundError, NotOpenError if this PgQueue is closed
        meanwhile.
        """
        self._check_open()
        return self._watch(job_id)

    async def _watch(self, job_id: UUID) -> AsyncGenerator[Job]:
        async with aclosing(self._watches.watch(job_id)) as jobs:
            async for job in jobs:
                yield self._completed(job)

    async def cancel(self, job_id: UUID, *, reason: str | None = None, actor: str | None = None) -> bool:
        """Cancel a job; False: it was over already. See `JobHandle.cancel`. Raises JobNotFoundError.

        *actor*: who does it, for the job's history.
        """
        async with self._database.acquire() as connection:
            cancelled, requested = await self._store.cancel_jobs(connection, [job_id], reason, actor)
            is_heard = bool(cancelled or requested)
            if not is_heard and not await self._store.find_existing(connection, [job_id]):
                raise await self._missing(connection, job_id)
        self._tell_cancelled(cancelled, requested, reason)
        return is_heard

    async def requeue(self, job_id: UUID, *, reason: str | None = None, actor: str | None = None) -> bool:
        """Make a job that is over, however it ended, pending again; False: it is not over.

        Its history stays; what it returned does not. Raises JobNotFoundError.
        """
        async with self._database.acquire() as connection:
            requeued = await self._requeue(connection, [job_id], TERMINAL, reason, actor)
            if not requeued.count and not await self._store.find_existing(connection, [job_id]):
                raise await self._missing(connection, job_id)
        self._tell_requeued(requeued, reason)
        return bool(requeued.count)

    def decode_result(self, task: TaskDefinition | None, job: Job) -> Any:
        """Return a job's result as its task annotates it. Raises what JobHandle.result raises."""
        raise_unless_succeeded(job)
        if "result" in job.undecodable:
            raise CodecError(job.id, "result", job.undecodable["result"])
        definition = task or self.registry.get(job.task)
        if not job.has_result or definition is None:
            return job.result
        return definition.result.decode(json.dumps(job.result))

    # Many

    async def jobs(
        self,
        *,
        status: str | Iterable[str] | None = None,
        task: str | None = None,
        queue: str | None = None,
        tag: str | None = None,
        key: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Return up to *limit* jobs that fit everything given, newest first, and a cursor to what follows.

        The order is that of their ids. A page looks at 10,000 jobs at most: with a filter that few of them
        fit it can be short, or empty, and still have a cursor; only where that is None is there no more.
        Times are compared with `created_at`; a job whose id the caller chose, with another day's time in it
        than that of its enqueue, may not be found by them. Raises InvalidFilterError.
        """
        chosen = JobFilter(read_statuses(status), task, queue, tag, key, created_after, created_before)
        check_limit(limit)
        ids, next_cursor = await self._find(chosen, limit, cursor)
        async with self._database.acquire() as connection:
            found = await self._store.read_jobs(connection, ids)
        # One that has moved on since it was found does not fit any more, or is gone.
        jobs = [self._completed(found[job_id]) for job_id in ids if job_id in found]
        if chosen.statuses is not None:
            jobs = [job for job in jobs if job.status in chosen.statuses]
        return Page(jobs, next_cursor)

    async def cancel_many(
        self,
        chosen: JobFilter,
        *,
        all: bool = False,  # noqa: A002  # what it means
        reason: str | None = None,
        actor: str | None = None,
    ) -> AsyncIterator[int]:
        """Cancel the live jobs that *chosen* takes in: `async for count in pgq.cancel_many(...)`.

        Yields how many, batch by batch; each is a transaction of its own, so leaving the loop leaves the rest
        alone. Running jobs are asked to stop. Raises InvalidFilterError for a filter that leaves nothing out,
        unless *all* is given.
        """
        _check_not_empty("cancel_many", chosen, everything=all)
        live = frozenset(JobStatus) - TERMINAL
        async for ids in self._batches(chosen, live):
            async with self._database.acquire() as connection:
                cancelled, requested = await self._store.cancel_jobs(connection, ids, reason, actor)
            self._tell_cancelled(cancelled, requested, reason)
            yield len(cancelled) + len(requested)

    async def requeue_many(
        self,
        chosen: JobFilter,
        *,
        all: bool = False,  # noqa: A002  # what it means
        reason: str | None = None,
        actor: str | None = None,
    ) -> AsyncIterator[int]:
        """Make the jobs that *chosen* takes in, and that are over, pending again, under their ids.

        Their history stays; what they returned does not. Those that have succeeded are left alone unless the
        filter names that status. Otherwise as `cancel_many`.
        """
        _check_not_empty("requeue_many", chosen, everything=all)
        # What has succeeded runs again only if somebody says so.
        unsaid = TERMINAL - {JobStatus.SUCCEEDED}
        statuses = unsaid if chosen.statuses is None else chosen.statuses & TERMINAL
        async for ids in self._batches(chosen, statuses):
            async with self._database.acquire() as connection:
                requeued = await self._requeue(connection, ids, statuses, reason, actor)
            self._tell_requeued(requeued, reason)
            yield requeued.count

    def _tell_cancelled(
        self, cancelled: Sequence[JobMoved], requested: Sequence[JobMoved], reason: str | None
    ) -> None:
        if cancelled:
            ids = [job.job_id for job in cancelled]
            self._watches.hint(ids)
            self._signals.publish_finished(ids)
            self._observers.emit(JobsCancelled(cancelled, reason))
        if requested:
            for job in requested:
                self._signals.publish(f"cancel {job.job_id}")
            self._observers.emit(CancelsRequested(requested, reason))

    async def _requeue(
        self,
        connection: Connection,
        ids: Sequence[UUID],
        statuses: Iterable[JobStatus],
        reason: str | None,
        actor: str | None,
    ) -> Requeued:
        is_heard = self._observers.want(JobsReopened)
        return await self._store.requeue_jobs(connection, ids, statuses, reason, actor, names_jobs=is_heard)

    def _tell_requeued(self, requeued: Requeued, reason: str | None) -> None:
        for lane in requeued.lanes:
            self._signals.publish(f"ready {lane}")
        if requeued.jobs:
            self._observers.emit(JobsReopened(requeued.jobs, "requeued", reason))

    async def _batches(self, chosen: JobFilter, statuses: frozenset[JobStatus]) -> AsyncIterator[list[UUID]]:
        if chosen.statuses is not None:
            statuses &= chosen.statuses
        if not statuses:
            return
        chosen = replace(chosen, statuses=statuses)
        cursor: str | None = None
        while True:
            ids, cursor = await self._find(chosen, BATCH, cursor)
            if ids:
                yield ids
            if cursor is None:
                return

    async def _find(self, chosen: JobFilter, limit: int, cursor: str | None) -> tuple[list[UUID], str | None]:
        """Return up to *limit* jobs from *cursor* on, and the cursor of those behind them."""
        high = decode_cursor(cursor)
        ids: list[UUID] = []
        looks, left = max(FIRST_LOOKS, limit), MAX_LOOKS
        async with self._database.acquire() as connection:
            while high is not None and left > 0:
                looks = min(looks, left)
                found = await self._store.list_jobs(
                    connection, chosen, FIRST_ID, high, looks=looks, limit=limit - len(ids)
                )
                ids += found.ids
                if len(ids) == limit:
                    return ids, encode_cursor(ids[-1])
                if found.looked < looks or found.reached is None:
                    return ids, None
                left -= looks
                looks *= 4
                cursor = encode_cursor(found.reached)
                high = decode_cursor(cursor)
        return ids, cursor if high is not None else None


def _check_not_empty(verb: str, chosen: JobFilter, *, everything: bool) -> None:
    if chosen.is_empty and not everything:
        raise InvalidFilterError(
            f"{verb}: a filter that leaves nothing out means every job: narrow it, or say all=True"
        )
