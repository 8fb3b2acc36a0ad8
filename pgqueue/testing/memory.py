"""What stands for the database in inline mode: the jobs of one block, in the memory of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

from pgqueue.enqueueing.idempotency import KeyedCall
from pgqueue.errors import ContextError, JobNotFoundError
from pgqueue.model.filters import SEARCHED, JobFilter
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import Attempt, Job, JobStatus
from pgqueue.model.progress import Progress, decode_progress
from pgqueue.model.stored_json import decode_json
from pgqueue.store import Place, StoredStep, Taken, Template
from pgqueue.store.durable import Wait


@dataclass
class Record:
    """A job, as it stands."""

    id: UUID
    template: Template
    arguments: str
    options: str | None
    created_at: datetime
    status: JobStatus = JobStatus.PENDING
    attempt: int = 0
    result: str | None = None
    reason: str | None = None
    error: JobError | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    next_run_at: datetime | None = None
    progress: Progress | None = None
    steps: dict[str, StoredStep] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)

    def as_job(self) -> Job:
        """Return it as callers read it."""
        template, last = self.template, self.attempts[-1] if self.attempts else None
        created, delay, expiry = self.created_at, template.delay, template.expires_after
        return Job(
            id=self.id,
            status=self.status,
            queue=template.lane[0],
            priority=template.lane[1],
            task=template.task,
            arguments=decode_json(self.arguments),
            attempt=self.attempt,
            losses=0,
            created_at=created,
            started_at=self.started_at,
            completed_at=self.completed_at,
            next_run_at=self.next_run_at,
            run_at=template.run_at if delay is None else created + timedelta(seconds=delay),
            expires_at=template.expires_at if expiry is None else created + timedelta(seconds=expiry),
            worker=None if self.started_at is None else "inline",
            result=None if self.result is None else decode_json(self.result),
            has_result=self.result is not None,
            reason=self.reason,
            error=self.error,
            last_reason=None if last is None else last.reason,
            last_error=None if last is None else last.error,
            tags=tuple(decode_json(template.tags)) if template.tags else (),
            key=template.key,
            headers=decode_json(template.headers) if template.headers else {},
            progress=self.progress,
            options=decode_json(self.options) if self.options else {},
            read_at=datetime.now(UTC),
        )


class Memory:
    """Keeps jobs, and does for their attempts what the store does. It has no statement for anything else."""

    encoding = None

    def __init__(self) -> None:
        self.records: dict[UUID, Record] = {}
        """In the order in which they were enqueued."""
        self._keys: dict[UUID, KeyedCall] = {}
        """The latest call with each idempotency key, by the key's digest."""
        self._events: set[tuple[str, str]] = set()

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what needs a database."""
        raise ContextError(
            f"inline mode has no database, and `{name}` needs one: test this with `drain`, on a database of "
            "the fixture `pgqueue_dsn`"
        )

    def find(self, job_id: UUID) -> Record:
        """Return a job. Raises JobNotFoundError."""
        if job_id not in self.records:
            raise JobNotFoundError(job_id)
        return self.records[job_id]

    def matching(self, chosen: JobFilter) -> list[Record]:
        """Return the jobs that match a filter, newest first."""
        return [record for record in reversed(self.records.values()) if _matches(chosen, record)]

    def holder(self, call: KeyedCall) -> KeyedCall | None:
        """Return the call that holds the key of *call*; None: it is *call* from now on."""
        held = self._keys.get(call.id)
        if held is not None and held.job_id in self.records:
            status = self.records[held.job_id].status
            keeps = held.rule.span in ("window", "forever") or not status.is_terminal
            if keeps or (held.rule.span == "success" and status is JobStatus.SUCCEEDED):
                return held
        self._keys[call.id] = call
        return None

    def mark(self, source: str, event_id: str) -> bool:
        """Note an event from outside; return whether it is new."""
        is_new = (source, event_id) not in self._events
        self._events.add((source, event_id))
        return is_new

    # As the store, for attempts. There is no connection, no lease, and no one else.

    async def read_steps(self, _connection: None, job_id: UUID) -> dict[str, StoredStep]:
        """Return the steps of a job."""
        return dict(self.find(job_id).steps)

    async def record_step(
        self, _connection: None, job_id: UUID, _lease_id: UUID, name: str, document: str, place: Place
    ) -> str:
        """Store a step, unless it is stored; return what is stored."""
        return self.find(job_id).steps.setdefault(name, StoredStep(document, place)).result

    async def settle_wait(
        self,
        _connection: None,
        job_id: UUID,
        _lease_id: UUID,
        name: str,
        event: str | None,
        seconds: float | None,
        place: Place,
    ) -> Wait:
        """Have a time pass at once. An event never comes."""
        if event is not None and seconds is None:
            return Wait(is_held=True, outcome=None, wake_at=None, wakes_in=None)
        self.find(job_id).steps[name] = StoredStep("[]", place)
        return Wait(is_held=True, outcome="[]", wake_at=None, wakes_in=None)

    async def take_limiter(self, *_: object, **__: object) -> Taken:
        """Let everybody in."""
        return Taken("held", None)

    async def leave_limiter(self, *_: object, **__: object) -> None:
        """Let go of nothing."""

    async def report_progress(
        self, _connection: None, reports: Iterable[tuple[UUID, UUID, str]]
    ) -> Sequence[UUID]:
        """Keep the latest report of each job."""
        for _, job_id, report in reports:
            self.find(job_id).progress = decode_progress(report)
        return []


class NoDatabase:
    """Lends no connection: what is done with it is done in memory, or refused."""

    encoding = None

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what needs a database."""
        raise ContextError(
            f"inline mode has no database (it was asked for `{name}`): test this with `drain`, on a database "
            "of the fixture `pgqueue_dsn`"
        )

    def check_loop(self) -> None:
        """Serve in any event loop."""

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """Lend nothing."""
        yield _NoConnection()


class _NoConnection:
    def __getattr__(self, name: str) -> NoReturn:
        raise ContextError(
            f"inline mode has no database (its connection was asked for `{name}`): test this with `drain`, "
            "on a database of the fixture `pgqueue_dsn`"
        )


def _ended_within(job: Job, chosen: JobFilter) -> bool:
    after, before = chosen.finished_after, chosen.finished_before
    if after is None and before is None:
        return True
    at = job.completed_at
    return at is not None and (after is None or at >= after) and (before is None or at < before)


def _matches(chosen: JobFilter, record: Record) -> bool:
    job = record.as_job()
    return (
        (chosen.statuses is None or job.status in chosen.statuses)
        and chosen.task in (None, job.task)
        and chosen.queue in (None, job.queue)
        and chosen.key in (None, job.key)
        and (chosen.tag is None or chosen.tag in job.tags)
        and (chosen.created_after is None or job.created_at >= chosen.created_after)
        and (chosen.created_before is None or job.created_at < chosen.created_before)
        and _ended_within(job, chosen)
        and (chosen.search is None or chosen.search.lower() in record.arguments[:SEARCHED].lower())
    )
