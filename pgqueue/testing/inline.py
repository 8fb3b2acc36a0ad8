"""Runs jobs at once, where they are enqueued, without a server.

A job goes through what it goes through in a worker: its options are resolved and checked, its arguments are
encoded, stored as JSON and decoded, and the same executor runs its handler and decides what follows. Only
the database is not there: what would be written is kept in memory (`memory.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID, uuid4

import anyio.to_thread

from pgqueue.app import PgQueue
from pgqueue.enqueueing.batch import Call
from pgqueue.enqueueing.calls import Intake
from pgqueue.enqueueing.idempotency import Settlement
from pgqueue.enqueueing.workflow_writer import Parts
from pgqueue.enqueueing.writer import Writer
from pgqueue.errors import ConfigurationError, ContextError, DuplicateJobError
from pgqueue.model.filters import JobFilter, Page
from pgqueue.model.jobs import Attempt, Job, JobStatus
from pgqueue.model.outcomes import Ended, Outcome, Restarted, Retried, Succeeded, Suspended
from pgqueue.store import Claimed, KeyHolder, Lane
from pgqueue.testing.memory import Memory, NoDatabase, Record
from pgqueue.worker.attempt.rerun import judge
from pgqueue.worker.isolation.runner import AttemptRunner, MainThread

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

END_WITHIN: Final = 5.0
"""Seconds that the part of a lifespan behind its `yield` has."""
MOST_RUNS: Final = 100
"""How often one job is run. One that asks for more (it snoozes until something changes) is left scheduled."""


@contextmanager
def inline(pgq: PgQueue) -> Iterator[PgQueue]:
    """Have every job of *pgq* run at once, where it is enqueued, without a server, inside the block.

        with inline(pgq):
            job = await send_email.enqueue("ann@example.com", "Hi")
            assert await job.result() == "sent 'Hi' to ann@example.com"

    `enqueue` returns when the job has ended. Its options are checked and its arguments are encoded and
    decoded as ever; a job that is to be retried runs again at once, as often as its options say. What came
    of it is read by its handle, also its error: `enqueue` raises none of the handler's. `ctx.step`,
    `ctx.sleep`, `ctx.progress` and limiters work; a sleep is over at once, and so is a delay. Idempotency
    keys are known for the block. `assert_enqueued` and `runs_twice` work. Middleware and dependencies are
    around each job, and so is the lifespan of a worker.

    What needs a database raises ContextError: `ctx.transaction()`, workflows, `depends_on`, events. Hard time
    limits, limits, orders, expiry, child processes, schedules and events for observers are not there. A job
    of a task that *pgq* does not declare stays pending. Raises ConfigurationError if *pgq* is open.
    """
    if pgq.is_open:
        raise ConfigurationError(
            "inline: this PgQueue is open, or inline already; begin the block before you open it"
        )
    own = type(pgq)
    # Another class and not another object: tasks refer to this one.
    pgq.__class__ = type(own.__name__, (InlinePgQueue, own), {})
    queue = cast(InlinePgQueue, pgq)
    before = queue.begin()
    try:
        yield pgq
    finally:
        queue.end(before)
        pgq.__class__ = own


class InlinePgQueue(PgQueue):
    """A PgQueue in inline mode."""

    def begin(self) -> dict[str, Any]:
        """Do without the database; return what is to be put back."""
        replaced = ("_database", "_store", "_writer")
        before = {name: vars(self)[name] for name in replaced}
        self._memory = Memory()
        no_database, no_store = cast(Any, NoDatabase()), cast(Any, self._memory)
        self._writer = InlineWriter(self)
        self._database, self._store = no_database, no_store
        return before

    def end(self, before: dict[str, Any]) -> None:
        """Put back what was replaced."""
        vars(self).update(before)
        del self._memory

    # What needs no database here

    @property
    def is_open(self) -> bool:
        """Whether it can be used: always."""
        return True

    def _check_open(self) -> None:
        """Let everything through."""

    async def open(self, dsn: str | None = None) -> None:
        """Open nothing."""

    async def close(self) -> None:
        """Close nothing."""

    async def migrate(self, *, lock_limit: float | None = 60.0) -> list[Any]:  # noqa: ARG002  # as its base
        """Migrate nothing."""
        return []

    async def check(self) -> None:
        """Find everything in order."""

    async def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def worker(self, **_: Any) -> Any:
        """Raise ConfigurationError: nothing is left for a worker."""
        raise ConfigurationError("inline mode has no worker: jobs have run when `enqueue` returns")

    # What is kept in memory

    async def get(self, job_id: UUID | str) -> Job:
        """Return a job. Raises JobNotFoundError."""
        return self._completed(self._memory.find(_id(job_id)).as_job())

    async def get_many(self, ids: Any, **_: Any) -> dict[UUID, Job]:
        """Return the jobs that exist, by id."""
        known = self._memory.records
        return {each: await self.get(each) for each in map(_id, ids) if each in known}

    async def attempts(self, job_id: UUID | str) -> list[Attempt]:
        """Return a job's attempts that did not succeed, oldest first."""
        return list(self._memory.find(_id(job_id)).attempts)

    async def wait(self, job_id: UUID | str) -> Job:
        """Return a job, which has ended. Raises ContextError if it has not: it never will."""
        job = await self.get(job_id)
        if not job.is_terminal:
            raise ContextError(f"job {job.id} ({job.task}) is {job.status}, and stays so in inline mode")
        return job

    def watch(self, job_id: UUID | str) -> AsyncGenerator[Job]:
        """Yield a job as it is."""

        async def once() -> AsyncGenerator[Job]:
            yield await self.get(job_id)

        return once()

    async def cancel(
        self, job_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> bool:
        """Cancel a job that has not ended. Raises JobNotFoundError."""
        del actor
        record = self._memory.find(_id(job_id))
        if record.status.is_terminal:
            return False
        record.status, record.reason, record.completed_at = JobStatus.CANCELLED, reason, datetime.now(UTC)
        return True

    async def _page(
        self, chosen: JobFilter, limit: int, cursor: str | None, owner: str | None, large_results: bool
    ) -> Page:
        del cursor, owner, large_results
        found = self._memory.matching(chosen)[:limit]
        return Page([self._completed(record.as_job()) for record in found], None)

    async def mark_processed(self, source: str, event_id: str, **_: Any) -> bool:
        """Note that an event is being processed; return False if it was noted before."""
        return self._memory.mark(source, event_id)

    async def _write_workflow(self, parts: Parts, connection: Connection | None) -> None:
        del parts, connection
        raise ContextError(
            "inline mode runs single jobs: test workflows, and jobs with `depends_on`, with `drain`, on a "
            "database of the fixture `pgqueue_dsn`"
        )

    # Running

    async def run(self, record: Record) -> None:
        """Run a job until it has ended."""
        self._memory.records[record.id] = record
        definition = self.registry.get(record.template.task)
        if definition is None:
            return
        is_isolated, is_async = definition.is_isolated, definition.is_async
        runner = self.attempt_runner(_Threads())
        serving = asyncio.create_task(runner.serve())
        try:
            await runner.begin("inline")
            for _ in range(MOST_RUNS):
                if not await self._run_once(runner, record):
                    break
        finally:
            definition.is_isolated, definition.is_async = is_isolated, is_async
            serving.cancel()
            await asyncio.wait((serving,))
            await runner.end(END_WITHIN)

    async def _run_once(self, runner: AttemptRunner, record: Record) -> bool:
        """Run one attempt; return whether another one follows."""
        now = datetime.now(UTC)
        age = None if record.started_at is None else (now - record.started_at).total_seconds()
        record.started_at = record.started_at or now
        record.status, record.attempt, record.next_run_at = JobStatus.RUNNING, record.attempt + 1, None
        outcome = await self._execute(runner, record, age, losses=0)
        if self._runs_twice and not _runs_once(self, record):
            second = await self._execute(runner, record, age, losses=1)
            definition = self.registry.get(record.template.task)
            assert definition is not None
            outcome = judge(outcome, second, self._codec, definition.result.secrets)
        return _conclude(record, outcome, started_at=now)

    async def _execute(
        self, runner: AttemptRunner, record: Record, age: float | None, *, losses: int
    ) -> Outcome:
        template = record.template
        claimed = Claimed(
            record.id, 0, 0, record.attempt, losses, template.task, record.arguments, record.options,
            template.headers, template.key, None, 0.0, age, template.tags, record.created_at.timestamp(),
        )  # fmt: skip
        lane = Lane(0, template.lane[0], template.lane[1], "")
        job = {
            "claimed": [str(record.id), *claimed[1:]],
            "lane": [lane.id, lane.queue, lane.priority, lane.task],
            "lease_id": str(uuid4()),
            "worker": "inline",
            "at_run_time": None,
        }
        outcome, _ = await runner.run(job, _nothing)
        return outcome


class InlineWriter(Writer):
    """Runs jobs instead of writing them."""

    def __init__(self, queue: InlinePgQueue) -> None:
        self._queue = queue

    async def write_one(self, call: Call, job_id: UUID, document: str) -> None:
        """Run one job."""
        await self._run(call.template, job_id, document)

    async def write(self, intake: Intake, connection: Connection | None, key_wait: float | None) -> None:
        """Run jobs, in the order of their calls, once all calls were checked."""
        del connection, key_wait
        intake.take_all()
        batch, memory = intake.batch, self._queue._memory  # noqa: SLF001  # two halves of one thing
        given = {
            job_id: (jobs.templates[number - 1], document)
            for jobs in (batch.ready, batch.timed)
            for job_id, number, document in zip(jobs.ids, jobs.numbers, jobs.documents, strict=True)
        }
        batch.settlement = settlement = Settlement()
        for job_id, raises in batch.chosen.items():
            if job_id in memory.records:
                if raises:
                    raise DuplicateJobError(job_id)
                batch.existing.add(job_id)
        for call in batch.keyed.values():
            if call.job_id not in batch.existing and (held := memory.holder(call)) is not None:
                call.check(KeyHolder(held.job_id, held.fingerprint))
                settlement.holders[call.job_id] = held.job_id
        for job_id in dict.fromkeys(batch.ids):
            if job_id not in settlement.holders and job_id not in batch.existing:
                await self._run(given[job_id][0], job_id, given[job_id][1])

    def forget_lanes(self) -> None:
        """Forget nothing."""

    async def _run(self, template: Any, job_id: UUID, document: str) -> None:
        await self._queue.run(Record(job_id, template, document, template.options, datetime.now(UTC)))


class _Threads(MainThread):
    """Runs plain functions in threads, as a worker does."""

    has_alarms = False

    async def run(self, function: Callable[[], Any]) -> Any:
        """Run *function* in a thread."""
        return await anyio.to_thread.run_sync(function)


def _conclude(record: Record, outcome: Outcome, *, started_at: datetime) -> bool:
    """Keep how an attempt ended; return whether another one follows."""
    now = datetime.now(UTC)
    match outcome:
        case Succeeded():
            record.status, record.result, record.completed_at = JobStatus.SUCCEEDED, outcome.result, now
            return False
        case Ended():
            record.status, record.completed_at = outcome.status, now
            record.reason, record.error = outcome.reason, outcome.error
        case Retried():
            record.status = JobStatus.SCHEDULED
            record.next_run_at = outcome.not_before or now + timedelta(seconds=outcome.delay)
            record.options = outcome.options or record.options
            record.arguments = outcome.arguments or record.arguments
        case Restarted():
            record.status, record.arguments, record.attempt = JobStatus.PENDING, outcome.arguments, 0
            record.steps.clear()
            return True
        case Suspended():
            record.status, record.attempt = JobStatus.BLOCKED, record.attempt - 1
            return False
        case _:
            record.status, record.attempt = JobStatus.PENDING, record.attempt - 1
            return False
    if isinstance(outcome, Ended) or outcome.error is not None or outcome.spent:
        record.attempts.append(
            Attempt(record.attempt, started_at, now, "inline", None, outcome.reason, outcome.error)
        )
    if isinstance(outcome, Retried) and not outcome.spent:
        record.attempt -= 1
    return isinstance(outcome, Retried)


def _runs_once(pgq: PgQueue, record: Record) -> bool:
    definition = pgq.registry.get(record.template.task)
    assert definition is not None
    return pgq.registry.policy(definition, record.template.lane[0]).max_losses == 0


async def _nothing() -> None:
    return None


def _id(job_id: UUID | str) -> UUID:
    return job_id if isinstance(job_id, UUID) else UUID(job_id)
