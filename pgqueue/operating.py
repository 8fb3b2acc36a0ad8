"""What operators do to a running system: pause and resume, configure, list jobs and act on many of them.

All of it is durable, and heeded by every worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from pgqueue.database import Database
from pgqueue.errors import ConfigurationError, InvalidFilterError
from pgqueue.filters import FIRST_ID, JobFilter, Page, check_limit, decode_cursor, encode_cursor
from pgqueue.jobs import TERMINAL, JobStatus
from pgqueue.options import AttemptOptions, TaskOptions, read_options
from pgqueue.registry import Registry
from pgqueue.settings import Kind, Setting
from pgqueue.signals import Signals
from pgqueue.store import Store

FIRST_LOOKS: Final = 200
MAX_LOOKS: Final = 10_000
"""Jobs that one page looks at, at first and at most."""
BATCH: Final = 500
"""Jobs in one transaction of a bulk operation."""
FINISHED_IDS: Final = 200
"""Job ids in one notification: its payload ends at 8,000 bytes."""


class Operating:
    """An operator's hand on the system, from one process."""

    def __init__(self, database: Database, store: Store, signals: Signals, registry: Registry) -> None:
        self._database = database
        self._store = store
        self._signals = signals
        self._registry = registry

    async def set_paused(
        self,
        *,
        queue: str | None,
        task: str | None,
        paused: bool,
        actor: str | None,
        reason: str | None,
    ) -> bool:
        """Pause or resume a queue or a task; False: it was so already."""
        kind, name = _which("pause" if paused else "resume", queue, task)
        async with self._database.acquire() as connection:
            changed = await self._store.set_paused(
                connection, kind, name, paused=paused, actor=actor, reason=reason
            )
        if paused:
            # Each its own transaction: a claim that has read the lanes before is waited for, and what it
            # has prefetched is seen. Also where it was paused already: the pause may have been cut short.
            async with self._database.acquire() as connection:
                await self._store.await_claims(connection)
            async with self._database.acquire() as connection:
                await self._store.return_paused(connection)
        self._signals.publish("settings")
        return changed

    async def configure(
        self, task: str, given: Mapping[str, Any], *, actor: str | None, reason: str | None
    ) -> None:
        """Let the attempts of *task* run with the options *given*. Raises InvalidOptionError."""
        where = f"task {task!r} at run time"
        options = read_options(where, given, AttemptOptions)
        _check_name("configure_task", task)
        self._registry.check(task, self._registry.get(task), options)
        async with self._database.acquire() as connection:
            await self._store.configure(connection, task, options.stored(), actor=actor, reason=reason)
        self._signals.publish("settings")

    async def settings(self) -> list[Setting]:
        """Return what is paused or configured."""
        async with self._database.acquire() as connection:
            return await self._store.list_settings(connection)

    async def page(self, chosen: JobFilter, *, limit: int, cursor: str | None) -> Page:
        """Return some of the jobs that *chosen* takes in, newest first, as they are stored."""
        check_limit(limit)
        ids, next_cursor = await self._find(chosen, limit, cursor)
        async with self._database.acquire() as connection:
            found = await self._store.read_jobs(connection, ids)
        # One that has moved on since it was found does not fit any more, or is gone.
        jobs = [found[job_id] for job_id in ids if job_id in found]
        if chosen.statuses is not None:
            jobs = [job for job in jobs if job.status in chosen.statuses]
        return Page(jobs, next_cursor)

    async def cancel_many(
        self, chosen: JobFilter, *, everything: bool, reason: str | None, actor: str | None
    ) -> AsyncIterator[int]:
        """Cancel the live jobs that *chosen* takes in; yield how many, batch by batch."""
        _check_not_empty("cancel_many", chosen, everything=everything)
        live = frozenset(JobStatus) - TERMINAL
        async for ids in self._batches(chosen, live):
            async with self._database.acquire() as connection:
                answers = await self._store.cancel_jobs(connection, ids, reason, actor)
            cancelled = [str(job_id) for job_id, answer in answers.items() if answer == "cancelled"]
            requested = [job_id for job_id, answer in answers.items() if answer == "requested"]
            for start in range(0, len(cancelled), FINISHED_IDS):
                self._signals.publish_finished(" ".join(cancelled[start : start + FINISHED_IDS]))
            for job_id in requested:
                self._signals.publish(f"cancel {job_id}")
            yield len(cancelled) + len(requested)

    async def requeue_many(
        self, chosen: JobFilter, *, everything: bool, reason: str | None, actor: str | None
    ) -> AsyncIterator[int]:
        """Make the terminal jobs that *chosen* takes in pending again; yield how many, batch by batch."""
        _check_not_empty("requeue_many", chosen, everything=everything)
        # What has succeeded runs again only if somebody says so.
        unsaid = TERMINAL - {JobStatus.SUCCEEDED}
        statuses = unsaid if chosen.statuses is None else chosen.statuses & TERMINAL
        async for ids in self._batches(chosen, statuses):
            async with self._database.acquire() as connection:
                count, lanes = await self._store.requeue_jobs(connection, ids, statuses, reason, actor)
            for lane in lanes:
                self._signals.publish(f"ready {lane}")
            yield count

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


def _which(verb: str, queue: str | None, task: str | None) -> tuple[Kind, str]:
    if (queue is None) == (task is None):
        raise ConfigurationError(f"{verb}: name one queue or one task: queue=... or task=...")
    if task is not None:
        _check_name(verb, task)
        return "task", task
    read_options(verb, {"queue": queue}, TaskOptions)
    assert queue is not None
    return "queue", queue


def _check_name(verb: str, task: str) -> None:
    if not isinstance(task, str) or not task or "\0" in task:
        raise ConfigurationError(f"{verb}: {task!r} is not the name of a task")
