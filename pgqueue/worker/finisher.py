"""Writes outcomes: whatever has collected as one statement a kind, then what has collected meanwhile.

No timer: an idle worker writes at once, a busy one hundreds at a time.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, assert_never
from uuid import UUID

import anyio
import asyncpg

from pgqueue.database import Link
from pgqueue.events import AttemptEnded, AttemptsEnded, AttemptsFenced, Observers
from pgqueue.jobs import JobError, JobStatus
from pgqueue.outcomes import Ended, Outcome, Released, Retry, Succeeded, Unknown
from pgqueue.store import Store
from pgqueue.worker.attempts import Attempt
from pgqueue.worker.persistence import persist

if TYPE_CHECKING:
    from pgqueue.database import Connection

logger = logging.getLogger("pgqueue.worker")

MAX_BATCH = 1000

UNSTORABLE = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.StatementTooComplexError)
"""What the server says of a value that it will not store; other errors are about the statement."""


@dataclass(slots=True)
class Finished:
    """An attempt and its outcome, to be written."""

    attempt: Attempt
    outcome: Outcome
    seconds: float


class Announce(Protocol):
    """Told what was committed: jobs that are terminal now, and lanes that have new ready jobs."""

    def __call__(self, *, finished: Sequence[UUID], lanes: Sequence[int]) -> None:
        """Tell."""


class Finisher:
    """Owns the outcomes of a worker until they are committed. *relieved* is told after each batch."""

    def __init__(
        self,
        store: Store,
        link: Link,
        *,
        worker: str,
        observers: Observers,
        announce: Announce,
        relieved: Callable[[], None],
    ) -> None:
        self._store = store
        self._link = link
        self._worker = worker
        self._observers = observers
        self._announce = announce
        self._relieved = relieved
        self._waiting: list[Finished] = []
        self._writing: Sequence[Finished] = ()
        self._wakeup = anyio.Event()
        self._idle = anyio.Event()

    @property
    def backlog(self) -> int:
        """Outcomes that are not committed yet."""
        return len(self._waiting) + len(self._writing)

    @property
    def job_ids(self) -> list[UUID]:
        """The jobs of those outcomes."""
        return [finished.outcome.job_id for finished in (*self._waiting, *self._writing)]

    def add(self, attempt: Attempt, outcome: Outcome) -> None:
        """Take an outcome over."""
        seconds = time.monotonic() - attempt.started if attempt.started else 0.0
        self._waiting.append(Finished(attempt, outcome, seconds))
        self._wakeup.set()

    async def flush(self) -> None:
        """Wait until every outcome is committed or fenced off."""
        while self.backlog:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def run(self) -> None:
        """Write outcomes until cancelled."""
        while True:
            if not self._waiting:
                self._idle.set()
                self._wakeup = anyio.Event()
                await self._wakeup.wait()
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            self._writing = batch
            # By lease: after a lost lease, outcomes of the old one may still be here.
            groups: defaultdict[tuple[UUID, type[Outcome]], list[Finished]] = defaultdict(list)
            for finished in batch:
                groups[finished.attempt.lease_id, type(finished.outcome)].append(finished)
            for (lease_id, _), same in groups.items():
                await self._write(lease_id, same)
            self._writing = ()
            self._relieved()

    async def _write(self, lease_id: UUID, batch: Sequence[Finished]) -> None:
        """Write outcomes of one kind, reached under one lease."""
        outcomes = [finished.outcome for finished in batch]
        tries = 0

        async def send() -> tuple[set[UUID], list[int]]:
            nonlocal tries
            tries += 1
            async with self._link.use() as connection:
                return await self._send(connection, lease_id, outcomes)

        try:
            # However long the database is away: whether an outcome still counts is for the fence to
            # say, and not for a clock.
            kept, lanes = await persist("finishing", send)
        except UNSTORABLE as error:
            await self._write_singly(lease_id, batch, error)
            return
        if tries > 1 and len(kept) < len(batch):
            # A commit whose acknowledgement was lost looks like a fence; the job itself tells.
            kept |= await self._already_written(batch, kept)
        self._report(batch, kept, lanes)

    async def _send(
        self, connection: Connection, lease_id: UUID, outcomes: list[Any]
    ) -> tuple[set[UUID], list[int]]:
        """Return the jobs that took their outcome, and the lanes that have new ready jobs."""
        store, kind = self._store, type(outcomes[0])
        if kind is Succeeded:
            return await store.finish(connection, lease_id, self._worker, outcomes), []
        if kind is Retry:
            return await store.retry(connection, lease_id, self._worker, outcomes), []
        if kind is Ended:
            return await store.fail(connection, lease_id, self._worker, outcomes), []
        if kind is Released:
            moved = await store.release(
                connection, lease_id, self._worker, [outcome.job_id for outcome in outcomes]
            )
        else:
            await store.make_lanes(
                connection, {(outcome.queue, outcome.priority, outcome.task) for outcome in outcomes}
            )
            moved = await store.put_aside(connection, lease_id, outcomes)
        return set(moved), list(set(moved.values()))

    async def _write_singly(self, lease_id: UUID, batch: Sequence[Finished], error: Exception) -> None:
        """Find the outcome that the server will not store and fail its job; write the others."""
        if len(batch) > 1:
            for finished in batch:
                await self._write(lease_id, [finished])
            return
        [finished] = batch
        job_id = finished.outcome.job_id
        if isinstance(finished.outcome, Ended):
            # Nothing of the handler's own is in it but cleaned text: then it is the statement that is wrong.
            raise error
        logger.error("job %s: the database refuses its outcome: %s", job_id, error)
        described = JobError("UnstorableResult", f"the database refuses the outcome: {error}")
        finished.outcome = Ended(job_id, JobStatus.FAILED, "unstorable_result", described)
        await self._write(lease_id, batch)

    async def _already_written(self, batch: Sequence[Finished], kept: set[UUID]) -> set[UUID]:
        """Return the jobs whose outcome an earlier try committed."""
        attempts = {
            finished.outcome.job_id: finished.attempt.claimed.attempt
            for finished in batch
            if finished.outcome.job_id not in kept
        }

        async def read() -> set[UUID]:
            async with self._link.use() as connection:
                jobs = await self._store.read_jobs(connection, attempts)
            return {
                job.id
                for job in jobs.values()
                if job.is_terminal and job.worker == self._worker and job.attempt == attempts[job.id]
            }

        return await persist("finishing", read)

    def _report(self, batch: Sequence[Finished], kept: set[UUID], lanes: Sequence[int]) -> None:
        finished_ids = [
            finished.outcome.job_id
            for finished in batch
            if isinstance(finished.outcome, Succeeded | Ended) and finished.outcome.job_id in kept
        ]
        if finished_ids or lanes:
            self._announce(finished=finished_ids, lanes=lanes)
        if len(kept) < len(batch):
            fenced = [finished.outcome.job_id for finished in batch if finished.outcome.job_id not in kept]
            logger.warning(
                "lease lost before finish: the outcomes of %d jobs were dropped, among them %s",
                len(fenced),
                fenced[0],
            )
            self._observers.emit(AttemptsFenced(fenced))
        if self._observers:
            self._observers.emit(
                AttemptsEnded([_event(each) for each in batch if each.outcome.job_id in kept])
            )


def _event(finished: Finished) -> AttemptEnded:
    context = finished.attempt.context
    status, reason = _status_after(finished.outcome)
    return AttemptEnded(
        job_id=context.job_id,
        task=context.task,
        queue=context.queue,
        attempt=context.attempt,
        status=status,
        reason=reason,
        seconds=finished.seconds,
    )


def _status_after(outcome: Outcome) -> tuple[JobStatus, str | None]:
    match outcome:
        case Succeeded():
            return JobStatus.SUCCEEDED, None
        case Retry():
            return JobStatus.SCHEDULED, outcome.reason
        case Ended():
            return outcome.status, outcome.reason
        case Released():
            return JobStatus.PENDING, "released"
        case Unknown():
            return JobStatus.PENDING, "unknown_task"
        case _:
            assert_never(outcome)
