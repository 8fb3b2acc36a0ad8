"""Jobs: read, awaited, listed and cancelled, one or many."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from pgqueue.client.parts import Parts
from pgqueue.errors import CodecError, InvalidFilterError, JobNotScheduledError
from pgqueue.events.kinds import CancelsRequested, JobMoved, JobsCancelled, JobsPromoted, JobsReopened
from pgqueue.model.checks import check_notes, text
from pgqueue.model.filters import (
    FIRST_ID,
    Found,
    JobCriteria,
    JobFilter,
    Page,
    StatusCount,
    check_filter,
    check_limit,
    decode_cursor,
    encode_cursor,
)
from pgqueue.model.ids import read_id
from pgqueue.model.jobs import LARGE_RESULT, TERMINAL, Attempt, Job, JobStatus
from pgqueue.store import Requeued, job_of
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.handle import JobHandle, raise_unless_succeeded
from pgqueue.tasks.refusals import THEIRS, describe_mismatch

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgqueue.database.connection import Connection

FIRST_LOOKS: Final = 200
LOOKS: Final = 10_000
"""Jobs that one statement of a page looks at: at first, and at most."""
MAX_LOOKS: Final = 10_000
MAX_LOOKS_FOR_ENDS: Final = 100_000
"""Jobs that one page looks at, at most: of any status, and of those that have ended. Live ones are passed by
cheaply where only others can match."""
SEARCH_LOOKS: Final = 2_000
"""Jobs that one statement looks at, at most, where it searches their arguments."""
SEARCH_TIME: Final = 2.0
"""Seconds after which the search of a page stops; a statement that has begun ends first."""
MOST_IDS: Final = 10_000
"""Jobs that are listed by id or counted, at most."""
MOST_PAGES: Final = 10
"""How often a list of ids looks on, each time at as many jobs as a page."""
COUNT_LOOKS: Final = 2_000
"""Jobs of each status that are looked at to count those that match a filter."""
BATCH: Final = 500
"""Jobs in one transaction of a bulk operation."""


class JobInterface(Parts):
    """What users can do with jobs. `actor` and `reason` are recorded in the job's history."""

    # One

    async def get(self, job_id: UUID | str) -> Job:
        """Return a job as it is now. Raises JobNotFoundError, JobPurgedError.

        Parts that cannot be decoded here are as stored, and named in its `undecodable`.
        """
        job_id = read_id(job_id)
        self._check_open()
        row = await self._reads.read(job_id)
        if row is None:
            async with self._database.acquire() as connection:
                raise await self._missing(connection, job_id)
        return self._completed(job_of(row))

    async def get_many(self, ids: Iterable[UUID | str], *, large_results: bool = True) -> dict[UUID, Job]:
        """Return the jobs with these *ids* that exist, by id. *large_results*: see `jobs`."""
        wanted = [read_id(each) for each in ids]
        async with self._database.acquire() as connection:
            jobs = await self._store.read_jobs(connection, wanted, longest=_longest(large_results))
        return {job_id: self._completed(job) for job_id, job in jobs.items()}

    def shown_arguments(self, job: Job) -> Any:
        """Return the arguments of *job*, with those that the option `redact` names replaced."""
        return self.registry.redact(job.task, job.queue, job.arguments)

    def handle(self, job_id: UUID | str) -> JobHandle[Any]:
        """Return a handle of a job by its id. No I/O: it may not exist."""
        job_id = read_id(job_id)
        return JobHandle(self, job_id, None)

    async def attempts(self, job_id: UUID | str) -> list[Attempt]:
        """Return a job's attempts that did not succeed, oldest first."""
        job_id = read_id(job_id)
        async with self._database.acquire() as connection:
            return await self._store.read_attempts(connection, job_id)

    async def wait(self, job_id: UUID | str) -> Job:
        """Wait until a job has ended, and return it. Raises JobNotFoundError."""
        job_id = read_id(job_id)
        self._check_open()
        self._check_reads()
        return self._completed(await self._watches.wait(job_id))

    def watch(self, job_id: UUID | str) -> AsyncGenerator[Job]:
        """Yield a job as it is now, and again whenever it changes, until it has ended.

        `async for job in pgq.watch(job_id)`. A slow consumer sees the latest state and misses those in
        between. Ends are seen at once, other changes within a second. All watches of a process share one
        query per second and one listener. Raises JobNotFoundError, NotOpenError if this PgQueue is closed
        meanwhile.
        """
        job_id = read_id(job_id)
        self._check_open()
        self._check_reads()
        return self._watch(job_id)

    async def _watch(self, job_id: UUID) -> AsyncGenerator[Job]:
        async with aclosing(self._watches.watch(job_id)) as jobs:
            async for job in jobs:
                yield self._completed(job)

    async def cancel(
        self, job_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> bool:
        """Cancel a job; False: it had already ended. See `JobHandle.cancel`.

        Raises JobNotFoundError, InvalidOptionError.
        """
        job_id = read_id(job_id)
        check_notes("cancel", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            cancelled, requested = await self._store.cancel_jobs(connection, [job_id], reason, actor)
            is_heard = bool(cancelled or requested)
            if not is_heard and not await self._store.find_existing(connection, [job_id]):
                raise await self._missing(connection, job_id)
        self._tell_cancelled(cancelled, requested, reason)
        return is_heard

    async def requeue(
        self, job_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> bool:
        """Make an ended job pending again, however it ended; False: it has not ended.

        Its history is kept, its result is not. Raises JobNotFoundError, InvalidOptionError.
        """
        job_id = read_id(job_id)
        check_notes("requeue", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            requeued = await self._requeue(connection, [job_id], TERMINAL, reason, actor)
            if not requeued.count and not await self._store.find_existing(connection, [job_id]):
                raise await self._missing(connection, job_id)
        self._tell_requeued(requeued, reason)
        return bool(requeued.count)

    async def run_now(
        self, job_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> bool:
        """Make a scheduled job pending before its time, be it for its first start or for a retry.

        False: it is pending or running already. Limits, the order of its group and a pause of its queue hold
        as ever. Raises JobNotScheduledError for a job that is blocked or has ended, JobNotFoundError,
        InvalidOptionError.
        """
        job_id = read_id(job_id)
        check_notes("run_now", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            try:
                is_moved = await self._store.run_now(connection, job_id, reason=reason, actor=actor)
            except asyncpg.NoDataFoundError:
                raise await self._missing(connection, job_id) from None
            except asyncpg.RestrictViolationError:
                jobs = await self._store.read_jobs(connection, [job_id])
                raise JobNotScheduledError(job_id, jobs[job_id].status) from None
            if is_moved and self._observers.want(JobsPromoted):
                for job in (await self._store.read_jobs(connection, [job_id])).values():
                    before, after = JobStatus.SCHEDULED, JobStatus.PENDING
                    moved = JobMoved(job.id, job.task, job.queue, before, after, job.attempt)
                    self._observers.emit(JobsPromoted([moved]))
        return is_moved

    def decode_result(self, task: TaskDefinition | None, job: Job) -> Any:
        """Return a job's result as its task annotates it. Raises the same errors as JobHandle.result."""
        raise_unless_succeeded(job)
        if "result" in job.undecodable:
            raise CodecError(job.id, "result", job.undecodable["result"])
        definition = task or self.registry.get(job.task)
        if not job.has_result or definition is None:
            return job.result
        try:
            return definition.result.decode(json.dumps(job.result))
        except THEIRS as error:
            # pydantic's, if the annotation has changed; or that of a user's validator, which may be any.
            # Not chained: pydantic's says the value, which may be secret.
            raise CodecError(job.id, "result", describe_mismatch(error)) from None

    # Many

    async def jobs(
        self,
        chosen: JobFilter | None = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
        large_results: bool = True,
        **criteria: Unpack[JobCriteria],
    ) -> Page:
        """Return up to *limit* jobs that match a filter, newest first, and the cursor of the next page.

        The filter is *chosen*, or made of *criteria*: `pgq.jobs(status="failed", queue="mail")`; without
        either, every job matches. The order is that of the ids. Pending, scheduled, blocked, running and
        failed jobs are found in tables of their own, however many others there are; the others by looking at
        all.

        A page looks at 10,000 jobs at most, or at 100,000 if all its statuses are ended ones: if few of
        them match, it is short, or empty, and says so by `is_cut_short`; its cursor goes on. Only a cursor of
        None means that there are no more. Times are compared with `created_at`; a job whose id the caller
        chose, with another day's time in it than that of its enqueue, may not be found by them.

        *search* looks for text in the arguments as they are shown: what is redacted is not found. A page that
        searches also stops after two seconds.

        *large_results*: False leaves out results of more than 65,536 characters of JSON, and does not read
        them: such a job has None as its `result`, and `has_large_result` is true. Raises InvalidFilterError,
        also for a search where a codec hides the arguments from the database.
        """
        if chosen is None:
            chosen = JobFilter.of(**criteria)
        elif criteria:
            raise InvalidFilterError(f"jobs: pass a JobFilter or {', '.join(sorted(criteria))}, not both")
        return await self._page(chosen, limit, cursor, None, large_results)

    async def owned_jobs(
        self,
        owner: str,
        chosen: JobFilter,
        *,
        limit: int = 100,
        cursor: str | None = None,
        large_results: bool = True,
    ) -> Page:
        """Return a page of the jobs whose header `owner` is *owner*, as `jobs` does.

        It looks at no job of another owner, which takes the index that `index_owners` makes: without that, it
        reads all jobs. Raises InvalidFilterError.
        """
        text("owned_jobs: owner", owner)
        return await self._page(chosen, limit, cursor, owner, large_results)

    async def _page(
        self, chosen: JobFilter, limit: int, cursor: str | None, owner: str | None, large_results: bool
    ) -> Page:
        check_filter("jobs", chosen, JobFilter)
        check_limit(limit)
        ids, next_cursor = await self._find(chosen, limit, cursor, owner)
        async with self._database.acquire() as connection:
            found = await self._store.read_jobs(connection, ids, longest=_longest(large_results))
        # One that changed since it was found may no longer match, or no longer exist.
        jobs = [self._completed(found[job_id]) for job_id in ids if job_id in found]
        if chosen.statuses is not None:
            jobs = [job for job in jobs if job.status in chosen.statuses]
        return Page(jobs, next_cursor, is_cut_short=next_cursor is not None and len(ids) < limit)

    async def job_ids(self, chosen: JobFilter, *, limit: int = MOST_IDS) -> Found:
        """Return the ids of up to *limit* jobs that match a filter, newest first: at most 10,000.

        It looks at as many jobs as ten pages of `jobs`. Raises InvalidFilterError.
        """
        check_filter("job_ids", chosen, JobFilter)
        check_limit(limit, MOST_IDS)
        ids: list[UUID] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            found, cursor = await self._find(chosen, limit - len(ids), cursor, None)
            ids += found
            if cursor is None or len(ids) == limit:
                break
        return Found(ids, is_more=cursor is not None)

    async def count_jobs(self, chosen: JobFilter | None = None) -> dict[JobStatus, StatusCount]:
        """Return how many jobs of each status match a filter, whatever statuses it names.

        The counts are bounded: at most 10,000 jobs of each live status are looked at, and as many of all jobs
        for those that have ended; with a filter, 2,000. Beyond that a count says that there may be more. A
        search is left out. Raises InvalidFilterError.
        """
        chosen = JobFilter() if chosen is None else chosen
        check_filter("count_jobs", chosen, JobFilter)
        is_plain = replace(chosen, statuses=None, search=None).is_empty
        async with self._database.acquire() as connection:
            return await self._store.count_jobs(
                connection, chosen, MOST_IDS if is_plain else COUNT_LOOKS, is_plain=is_plain
            )

    async def cancel_many(
        self,
        chosen: JobFilter,
        *,
        all: bool = False,  # noqa: A002  # what it means
        reason: str | None = None,
        actor: str | None = None,
    ) -> AsyncIterator[int]:
        """Cancel the live jobs that match *chosen*: `async for count in pgq.cancel_many(...)`.

        Yields the number of jobs in each batch; each is a transaction of its own, so leaving the loop leaves
        the other jobs as they are. Running jobs are asked to stop. *all*: confirms an empty filter, which
        matches every job. Raises InvalidFilterError.
        """
        _check_not_empty("cancel_many", chosen, everything=all)
        check_notes("cancel_many", actor=actor, reason=reason)
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
        """Make the ended jobs that match *chosen* pending again, under the same ids.

        Their history is kept, their results are not. Succeeded jobs are only requeued if the filter names
        that status. Otherwise as `cancel_many`.
        """
        _check_not_empty("requeue_many", chosen, everything=all)
        check_notes("requeue_many", actor=actor, reason=reason)
        by_default = TERMINAL - {JobStatus.SUCCEEDED}
        statuses = by_default if chosen.statuses is None else chosen.statuses & TERMINAL
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
            # Others may wait for them, or for what they held of limits.
            self._signals.publish("attend")
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
        if requeued.lanes:
            self._signals.publish("attend")
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
            ids, cursor = await self._find(chosen, BATCH, cursor, None)
            if ids:
                yield ids
            if cursor is None:
                return

    async def _find(
        self, chosen: JobFilter, limit: int, cursor: str | None, owner: str | None
    ) -> tuple[list[UUID], str | None]:
        """Return up to *limit* jobs (of *owner*) from *cursor* on, and the cursor of those after them."""
        high = decode_cursor(cursor)
        ids: list[UUID] = []
        looks = max(FIRST_LOOKS, limit)
        left = MAX_LOOKS_FOR_ENDS if chosen.is_ended and not chosen.has_tables else MAX_LOOKS
        most, until = LOOKS, math.inf
        if chosen.search is not None:
            if self._codec is not None:
                raise InvalidFilterError(
                    "filter: arguments cannot be searched, because a codec hides them from the database; "
                    "filter by task, queue, tag, key or time"
                )
            most, until = SEARCH_LOOKS, time.monotonic() + SEARCH_TIME
        async with self._database.acquire() as connection:
            while high is not None and left > 0:
                looks = min(looks, left, most)
                room = limit - len(ids)
                if owner is None:
                    found = await self._store.list_jobs(
                        connection, chosen, FIRST_ID, high, looks=looks, limit=room
                    )
                else:
                    found = await self._store.list_owned(
                        connection, owner, chosen, high, looks=looks, limit=room
                    )
                if chosen.search is None:
                    ids += found.ids
                else:
                    ids += await self._visibly(connection, found.ids, chosen.search)
                if len(ids) == limit:
                    return ids, encode_cursor(ids[-1])
                if len(found.ids) == room:
                    # Some were left out: those after the last one are still to be looked at.
                    cursor = encode_cursor(found.ids[-1])
                    high = decode_cursor(cursor)
                    left = left - room if time.monotonic() < until else 0
                    continue
                if found.looked < looks or found.reached is None:
                    return ids, None
                left = left - looks if time.monotonic() < until else 0
                looks *= 4
                cursor = encode_cursor(found.reached)
                high = decode_cursor(cursor)
        return ids, cursor if high is not None else None

    async def _visibly(self, connection: Connection, ids: Sequence[UUID], search: str) -> list[UUID]:
        """Return those of *ids* in whose arguments *search* is found as they are shown: no secret is."""
        jobs = await self._store.read_jobs(connection, ids, longest=0)
        return [each for each in ids if each in jobs and self._is_visible(jobs[each], search)]

    def _is_visible(self, job: Job, search: str) -> bool:
        shown = self.shown_arguments(job)
        if shown == job.arguments:
            return True
        return search.lower() in json.dumps(shown, ensure_ascii=False, separators=(",", ":")).lower()


def _longest(large_results: bool) -> int | None:
    return None if large_results else LARGE_RESULT


def _check_not_empty(verb: str, chosen: JobFilter, *, everything: bool) -> None:
    check_filter(verb, chosen, JobFilter)
    if chosen.is_empty and not everything:
        raise InvalidFilterError(f"{verb}: an empty filter matches every job: narrow it, or pass all=True")
