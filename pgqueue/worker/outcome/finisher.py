"""Writes the outcomes of attempts: what has collected, then what has collected meanwhile.

The outcomes of one kind are one statement. There is no timer: an idle worker writes at once, a busy one
hundreds at a time. Each statement carries the fence, which is the lease under which the outcome was reached:
if the lease is gone, another worker may run the job, and the outcome is dropped. So an outcome is kept here
for as long as the database is unavailable. Whether it still counts is for the fence to say, not for a clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

import anyio

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.link import Link
from pgqueue.database.outages import AWAY_ERRORS, is_about_values, told
from pgqueue.database.patience import Reminder, persist
from pgqueue.events.kinds import BatchSent, WorkErrorIsolated
from pgqueue.events.observers import Observers
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import (
    Ended,
    Outcome,
    Released,
    Retried,
    Succeeded,
)
from pgqueue.retry.decision import released_too_often
from pgqueue.retry.undecodable import is_undecodable, wait_or_fail
from pgqueue.store import Store
from pgqueue.upkeep.announcing import Announcer
from pgqueue.upkeep.broken_rows import DOUBTFUL, Stuck
from pgqueue.upkeep.state import WorkerState
from pgqueue.worker.attempt.attempt import OVER, RunningAttempt
from pgqueue.worker.outcome import batches, sending
from pgqueue.worker.outcome.lost_answers import LostAnswers
from pgqueue.worker.outcome.reporting import Reporter

logger = logging.getLogger("pgqueue.worker")

MAX_BATCH = 1000
MAX_RELEASES = 20
"""How often in a row a job may return to the queue because its worker stopped; then an attempt counts."""


class Finisher:
    """Owns the outcomes of a worker until they are committed. *queues*: those of its jobs, if known.

    *grace*: seconds for which a job that cannot be decoded waits for a worker that can; None: for ever.
    """

    def __init__(
        self,
        store: Store,
        link: Link,
        state: WorkerState,
        announcer: Announcer,
        observers: Observers,
        *,
        worker: str,
        grace: float | None,
        queues: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._link = link
        self._state = state
        self._observers = observers
        self._worker = worker
        self._grace = grace
        self._reporter = Reporter(announcer, observers, queues)
        self._answers = LostAnswers(store, link, worker=worker)
        self._waiting: list[RunningAttempt] = []
        self._stuck: dict[RunningAttempt, Stuck] = {}
        """Outcomes that could not be written and may be later, with what is known of their failures."""
        self._aside: list[RunningAttempt] = []
        """Those of them that are skipped for a while."""
        self._written_at = float("-inf")
        self._failed_in_a_row = 0
        self._reminder = Reminder()
        self._writing: Sequence[RunningAttempt] = ()
        self._wakeup = asyncio.Event()
        self._idle = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Outcomes that are not committed yet."""
        return len(self._waiting) + len(self._writing) + len(self._aside)

    @property
    def job_ids(self) -> list[UUID]:
        """The jobs of those outcomes."""
        return [attempt.claimed.id for attempt in (*self._waiting, *self._writing, *self._aside)]

    @property
    def pending(self) -> list[RunningAttempt]:
        """The attempts that those are outcomes of."""
        return [*self._writing, *self._waiting, *self._aside]

    @property
    def counted(self) -> list[RunningAttempt]:
        """Those of them that count: once their outcomes are written, the job is another attempt."""
        return [
            attempt
            for attempt in self.pending
            if isinstance(attempt.outcome, Succeeded | Ended)
            or (isinstance(attempt.outcome, Retried) and attempt.outcome.spent)
        ]

    def take_over(self, attempts: Iterable[RunningAttempt]) -> None:
        """Write outcomes that another finisher holds and cannot write."""
        self._waiting += attempts
        self._wakeup.set()

    def add(self, attempt: RunningAttempt, outcome: Outcome) -> None:
        """End an attempt, and take its outcome over."""
        attempt.advance(OVER)
        attempt.outcome = outcome
        if attempt.started:
            attempt.seconds = time.monotonic() - attempt.started
        if not self._waiting:
            self._wakeup.set()
        self._waiting.append(attempt)

    def report(self, attempt: RunningAttempt, outcome: Outcome, *, is_kept: bool) -> None:
        """End an attempt whose outcome is already committed, or was fenced off; tell of it."""
        attempt.advance(OVER)
        attempt.outcome = outcome
        attempt.seconds = time.monotonic() - attempt.started
        self._reporter.report([attempt], [attempt.claimed.id] if is_kept else [], ())

    async def flush(self) -> None:
        """Wait until every outcome is committed or fenced off."""
        while self.backlog:
            self._idle = asyncio.Event()
            await self._idle.wait()

    async def run(self) -> None:
        """Write outcomes until cancelled. Started again, it writes what was interrupted, too."""
        self._waiting, self._writing = [*self._writing, *self._waiting], ()
        while True:
            if not self._waiting:
                self._idle.set()
                self._wakeup = asyncio.Event()
                await self._wait()
            if self._aside:
                self._take_back()
            self._failed_in_a_row = 0
            self._writing, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            for same in batches.groups(self._writing):
                if type(same[0].outcome) is Released:
                    await self._write_released(same)
                elif is_undecodable(same[0].outcome):
                    await self._write_undecodable(same)
                else:
                    await self._write(same)
            self._writing = ()
            # They may have held the claimer back, with no attempt left to wake it.
            self._state.claiming.set()

    async def _wait(self) -> None:
        """Wait for an outcome, or until one that was skipped is to be tried again."""
        if not self._aside:
            await self._wakeup.wait()
            return
        until = min(self._stuck[attempt].until for attempt in self._aside)
        with anyio.move_on_after(max(0.0, until - time.monotonic())):
            await self._wakeup.wait()

    def _take_back(self) -> None:
        """Try outcomes again that were skipped for long enough."""
        now = time.monotonic()
        due = [attempt for attempt in self._aside if self._stuck[attempt].until <= now]
        self._aside = [attempt for attempt in self._aside if self._stuck[attempt].until > now]
        self._waiting += due

    async def _write(self, batch: Sequence[RunningAttempt]) -> None:
        """Write outcomes of one kind, reached under one lease."""
        if self._failed_in_a_row >= DOUBTFUL:
            # It is about all of them: see `_put_aside`.
            for attempt in batch:
                self._skip(attempt)
            return
        if len(parts := batches.parts(batch)) > 1:
            await self._write_each(parts)
            return
        started_at = time.monotonic()
        try:
            kept, lanes, cancelled, notes, own = await self._commit(batch)
        except Exception as error:
            if len(batch) == 1:
                await self._write_broken(batch[0], error)
            else:
                await self._write_each(batches.halves(batch))
            return
        self._written_at, self._failed_in_a_row = started_at, 0
        if self._stuck:
            self._stuck = {attempt: stuck for attempt, stuck in self._stuck.items() if attempt not in batch}
        self._reporter.pass_on(notes, own)
        if cancelled and not isinstance(batch[0].outcome, Ended):
            batch = self._reporter.report_cancelled(batch, cancelled)
        if batch:
            self._reporter.report(batch, kept, lanes)

    async def _write_each(self, several: Iterable[Sequence[RunningAttempt]]) -> None:
        for batch in several:
            await self._write(batch)

    async def _commit(self, batch: Sequence[RunningAttempt]) -> sending.Written:
        """Send outcomes until they are committed. Raises errors that are about the outcomes."""
        tries = 0

        async def send() -> sending.Written:
            nonlocal tries
            tries += 1
            async with self._link.use() as connection:
                return await sending.send(self._store, connection, batch, worker=self._worker)

        started_at = time.monotonic()
        written = await persist("finishing", send, errors=AWAY_ERRORS)
        if self._observers.want(BatchSent):
            self._observers.emit(BatchSent("finish", len(batch), time.monotonic() - started_at))
        if tries > 1 and len(written.kept) < len(batch):
            # A commit whose acknowledgement was lost looks like a fence; the job itself tells.
            earlier = await self._answers.find_written(batch, written.kept)
            cancelled = {job_id for job_id, status in earlier.items() if status is JobStatus.CANCELLED}
            written = written._replace(kept={*written.kept, *earlier}, cancelled=cancelled)
        if len(written.kept) < len(batch) and (forgotten := await self._take_again(batch, written.kept)):
            again = await self._commit(forgotten)
            return sending.Written(
                {*written.kept, *again.kept},
                {*written.lanes, *again.lanes},
                {*written.cancelled, *again.cancelled},
                None if written.notes is None or again.notes is None else [*written.notes, *again.notes],
                {*written.own, *again.own},
            )
        return written

    async def _take_again(
        self, batch: Sequence[RunningAttempt], kept: Collection[UUID]
    ) -> list[RunningAttempt]:
        """Return the attempts that are fenced off only because a crashed server forgot their claims.

        Their jobs are pending, and were taken again.
        """
        missing = [attempt for attempt in batch if attempt.started and attempt.claimed.id not in kept]
        if not missing or isinstance(batch[0].outcome, Released):
            return []

        async def take() -> set[UUID]:
            async with self._link.use() as connection:
                running = [attempt.underway for attempt in missing]
                found = await self._store.take_again(connection, batch[0].lease_id, running)
                # Held: the claimer has taken it again.
                return {job_id for job_id, how in found.items() if how != "elsewhere"}

        taken = await persist("finishing", take)
        return [attempt for attempt in missing if attempt.claimed.id in taken]

    async def _write_released(self, batch: Sequence[RunningAttempt]) -> None:
        """Release jobs; have the attempts count of those that were released too often in a row."""
        started = [attempt.claimed.id for attempt in batch if attempt.started]

        async def read() -> set[UUID]:
            async with self._link.use() as connection:
                return await self._store.find_often_released(connection, started, MAX_RELEASES)

        often = await persist("finding jobs that were released too often", read) if started else set[UUID]()
        for attempt in batch:
            if attempt.claimed.id in often:
                retry = None if attempt.policy is None else attempt.policy.retry
                attempt.outcome = released_too_often(attempt.so_far, retry, MAX_RELEASES)
        for same in batches.groups(batch):
            await self._write(same)

    async def _write_undecodable(self, batch: Sequence[RunningAttempt]) -> None:
        """Have jobs wait for a worker that can decode them, or fail once they have waited for the grace."""

        async def read() -> dict[UUID, float]:
            async with self._link.use() as connection:
                return await self._store.find_undecodable(connection, [each.claimed.id for each in batch])

        waited = await persist("finding jobs that could not be decoded", read)
        for attempt in batch:
            assert isinstance(attempt.outcome, Retried)
            attempt.outcome = wait_or_fail(attempt.outcome, waited.get(attempt.claimed.id, 0.0), self._grace)
        for same in batches.groups(batch):
            await self._write(same)

    async def _write_broken(self, attempt: RunningAttempt, error: Exception) -> None:
        """Fail the job of an outcome that cannot be written; if that cannot be written either, try it later.

        An error that may be about all rows, such as one of a user's trigger, is no fault of this one before
        another one has been written.
        """
        job_id = attempt.claimed.id
        stuck = self._stuck.get(attempt) or Stuck()
        if is_about_values(error) or self._written_at > stuck.first_at:
            logger.error(
                "job %s: the database rejected its outcome: %s", job_id, error, extra=log_fields(error)
            )
            self._observers.emit(
                WorkErrorIsolated("finishing", type(error).__name__, [job_id], statement_of(error))
            )
            if not isinstance(attempt.outcome, Ended):
                described = JobError("UnstorableResult", f"the database rejected the outcome: {error}")
                attempt.outcome = Ended(job_id, JobStatus.FAILED, "unstorable_result", described)
                await self._write([attempt])
                return
            try:
                is_failed = await persist(
                    "finishing", lambda: self._fail_broken(attempt, error), errors=AWAY_ERRORS
                )
            except Exception as second:
                error = second
            else:
                self._stuck.pop(attempt, None)
                self._reporter.report([attempt], [job_id] if is_failed else [], ())
                return
        self._put_aside(attempt, stuck, error)

    async def _fail_broken(self, attempt: RunningAttempt, error: Exception) -> bool:
        assert isinstance(attempt.outcome, Ended)
        described = attempt.outcome.error or JobError("BrokenRow", f"finishing failed: {error}")
        async with self._link.use() as connection:
            return await self._store.fail_broken(
                connection,
                attempt.claimed.id,
                attempt.outcome.reason,
                described,
                self._worker,
                attempt.lease_id,
            )

    def _put_aside(self, attempt: RunningAttempt, stuck: Stuck, error: Exception) -> None:
        """Skip an outcome for a while. After some in a row nothing more is tried: it is about all of them."""
        self._stuck[attempt] = stuck
        self._failed_in_a_row += 1
        self._skip(attempt)
        logger.log(
            self._reminder.level(logging.ERROR),
            "finishing: the outcome of job %s cannot be written (%s); it is kept and tried again",
            attempt.claimed.id,
            told(error),
            extra=log_fields(error),
        )
        self._observers.emit(
            WorkErrorIsolated("finishing", type(error).__name__, statement=statement_of(error))
        )

    def _skip(self, attempt: RunningAttempt) -> None:
        self._stuck.setdefault(attempt, Stuck()).fail()
        self._aside.append(attempt)
