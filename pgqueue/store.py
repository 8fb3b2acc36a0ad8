"""What pgqueue does to its data: one function per statement, connection in, values out.

Opens no transaction and decides nothing. The statements are in `sql/`, each under its function's name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pgqueue.filters import JobFilter
from pgqueue.jobs import Attempt, Job, JobError, JobStatus
from pgqueue.outcomes import Ended, Retry, Unknown
from pgqueue.progress import decode_progress
from pgqueue.retention import Retention
from pgqueue.settings import Kind, Setting, Settings
from pgqueue.statements import load_statements

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database import Connection


@dataclass(frozen=True, slots=True)
class Template:
    """All of a job but its id and arguments. `lane` is (queue, priority); durations are in seconds."""

    lane: tuple[str, int]
    task: str
    run_at: datetime | None = None
    delay: float | None = None
    expires_at: datetime | None = None
    expires_after: float | None = None
    options: str | None = None
    headers: str | None = None
    tags: str | None = None
    key: str | None = None

    @property
    def is_timed(self) -> bool:
        """Whether its jobs may have to wait for a time."""
        return self.delay is not None or self.run_at is not None


@dataclass(slots=True)
class NewJobs:
    """Jobs to be written: parallel lists of ids, arguments as JSON, and numbers of templates, from 1."""

    ids: list[UUID] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)

    def add(self, job_id: UUID, document: str, template: Template) -> None:
        """Add a job."""
        # The same template object again and again is the usual case of a bulk call; calls with keys of
        # their own have equal ones.
        if not self.templates or (self.templates[-1] is not template and self.templates[-1] != template):
            self.templates.append(template)
        self.ids.append(job_id)
        self.documents.append(document)
        self.numbers.append(len(self.templates))

    def without(self, ids: Collection[UUID]) -> NewJobs:
        """Return these jobs but those with *ids*."""
        kept = [index for index, job_id in enumerate(self.ids) if job_id not in ids]
        return NewJobs(
            [self.ids[index] for index in kept],
            [self.documents[index] for index in kept],
            [self.numbers[index] for index in kept],
            self.templates,
        )

    def slice(self, start: int, end: int) -> NewJobs:
        """Return the jobs from *start* to before *end*."""
        if start == 0 and end == len(self.ids):
            return self
        first, last = self.numbers[start], self.numbers[end - 1]
        return NewJobs(
            self.ids[start:end],
            self.documents[start:end],
            [number - first + 1 for number in self.numbers[start:end]],
            self.templates[first - 1 : last],
        )


class Claimed(NamedTuple):
    """A job under lease, as a worker gets it. A tuple: every job makes one, and it is made in C."""

    id: UUID
    lane: int
    position: int
    attempt: int
    losses: int
    task: str
    arguments: str
    options: str | None
    headers: str | None
    key: str | None
    expired: bool | None
    waited: float
    """Seconds from ready to claimed."""
    age: float | None
    """Seconds from the first attempt's start to this claim; None: this is the first."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One FIFO: a queue at a priority, and the task it is for where it is for one alone."""

    id: int
    queue: str
    priority: int
    task: str


@dataclass(frozen=True, slots=True)
class Promoted:
    """What promoting found: `next_in` is the seconds until the next job is due."""

    count: int
    lanes: Sequence[int]
    next_in: float | None


@dataclass(frozen=True, slots=True)
class Rescued:
    """A job taken back from a lost worker: pending again, failed, or cancelled."""

    id: UUID
    task: str
    lane: int
    status: JobStatus
    queue: str
    attempt: int
    """The number of the attempt that was lost, or of the last one if none was."""
    was_running: bool


class KeyRow(NamedTuple):
    """What is stored of an idempotency key. `window` is in seconds, None: for ever."""

    id: UUID
    scope: str
    key: str
    job_id: UUID
    span: str
    fingerprint: str | None
    window: float | None


class KeyHolder(NamedTuple):
    """The job that has an idempotency key, and the digest of its call; None: any call is the same."""

    job_id: UUID
    fingerprint: str | None


class Standing(StrEnum):
    """Where a job stands, as far as one that may join or follow it is concerned."""

    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Measure:
    """What a queue holds: `pending` is capped, `oldest_age` in seconds."""

    queue: str
    pending: int
    oldest_age: float | None


class Partition(NamedTuple):
    """A day partition and the ids that it takes, the upper end not included."""

    name: str
    low: UUID
    high: UUID
    is_old: bool
    """Whether all its ids are of moments past the retention."""
    limit_id: UUID
    """The first id that is not."""


class Step(NamedTuple):
    """What one step through the jobs found: `reached` is the last one's id."""

    looked: int
    reached: UUID | None
    are_past: bool = False
    """Whether all of them may go."""
    removed: int = 0


class Found(NamedTuple):
    """What one look at a list found: `reached` is the last job looked at."""

    ids: Sequence[UUID]
    looked: int
    reached: UUID | None


class Store:
    """The statements for one schema."""

    def __init__(self, schema: str) -> None:
        self._sql = load_statements(schema)

    # Enqueueing

    async def enqueue(self, connection: Connection, jobs: NewJobs) -> None:
        """Write *jobs* that can run now. All or nothing."""
        await connection.execute(self._sql["enqueue"], *_new_jobs(jobs))

    async def schedule(self, connection: Connection, jobs: NewJobs) -> list[int]:
        """Write *jobs* that may have to wait; return the lanes of those that do not. All or nothing."""
        rows = await connection.fetch(
            self._sql["schedule"],
            *_new_jobs(jobs),
            [template.run_at for template in jobs.templates],
            [_interval(template.delay) for template in jobs.templates],
        )
        return [row["lane"] for row in rows]

    async def find_existing(self, connection: Connection, ids: Iterable[UUID]) -> set[UUID]:
        """Return those of *ids* that are taken."""
        return {row["id"] for row in await connection.fetch(self._sql["find_existing"], list(ids))}

    async def make_lanes(self, connection: Connection, lanes: Iterable[tuple[str, int, str]]) -> None:
        """Make those of *lanes*, as (queue, priority, task), that are missing."""
        queues, priorities, tasks = zip(*lanes, strict=True)
        await connection.execute(self._sql["make_lanes"], queues, priorities, tasks)

    # Idempotency

    async def take_keys(self, connection: Connection, rows: Sequence[KeyRow]) -> set[UUID]:
        """Give keys, sorted by id, to jobs where no other job holds them; return the ids of those keys."""
        taken = await connection.fetch(self._sql["take_keys"], _key_rows(rows))
        return {row["id"] for row in taken}

    async def find_keys(self, connection: Connection, ids: Iterable[UUID]) -> dict[UUID, KeyHolder]:
        """Return who has the keys with *ids*."""
        rows = await connection.fetch(self._sql["find_keys"], _ids(ids))
        return {row["id"]: KeyHolder(row["job_id"], row["fingerprint"]) for row in rows}

    async def pass_keys(self, connection: Connection, rows: Sequence[KeyRow]) -> None:
        """Give keys, which take_keys has locked, to jobs, whoever had them."""
        await connection.execute(self._sql["pass_keys"], _key_rows(rows), _ids(row.id for row in rows))

    async def replace_jobs(
        self, connection: Connection, calls: Iterable[tuple[UUID, str, Template]]
    ) -> set[UUID]:
        """Give jobs that have not started other arguments, as JSON, and templates; return those jobs."""
        rows = await connection.fetch(
            self._sql["replace_jobs"],
            json.dumps([_replacement(job_id, document, template) for job_id, document, template in calls]),
        )
        return {row[0] for row in rows}

    async def hold_waiting(self, connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Standing]:
        """Lock the jobs that wait, so that they start after this transaction; return where each stands."""
        rows = await connection.fetch(self._sql["hold_waiting"], _ids(ids))
        return {row["id"]: Standing(row["stands"]) for row in rows}

    async def wait_for(self, connection: Connection, others: Mapping[UUID, UUID]) -> None:
        """Have new jobs wait, each for the end of another."""
        await connection.execute(self._sql["wait_for"], _ids(others.keys()), _ids(others.values()))

    async def mark_processed(
        self, connection: Connection, source: str, event_id: str, ttl: float, marker: UUID
    ) -> bool:
        """Note that an external event is being dealt with; False: it was before."""
        is_first = await connection.fetchval(
            self._sql["mark_processed"], source, event_id, _interval(ttl), marker
        )
        return bool(is_first)

    # Claiming

    async def find_lanes(
        self, connection: Connection, queues: Iterable[str], tasks: Iterable[str]
    ) -> list[Lane]:
        """Return the lanes that a worker walks."""
        rows = await connection.fetch(self._sql["find_lanes"], list(queues), list(tasks))
        return [Lane(*row) for row in rows]

    async def claim(
        self, connection: Connection, lease_id: UUID, limit: int, walk: Sequence[tuple[int, int]]
    ) -> list[Claimed]:
        """Lease up to *limit* jobs, walking lanes from positions in the given order."""
        lanes, positions = zip(*walk, strict=True)
        rows = await connection.fetch(self._sql["claim"], lease_id, limit, lanes, positions)
        return [Claimed._make(row) for row in rows]

    async def prefetch(
        self, connection: Connection, lease_id: UUID, limit: int, walk: Sequence[tuple[int, int]]
    ) -> list[tuple[UUID, int, int]]:
        """Lease up to *limit* jobs without starting them; return (job id, lane, position) of each."""
        lanes, positions = zip(*walk, strict=True)
        rows = await connection.fetch(self._sql["prefetch"], lease_id, limit, lanes, positions)
        return [tuple(row) for row in rows]

    async def start(self, connection: Connection, lease_id: UUID, ids: Sequence[UUID]) -> list[Claimed]:
        """Start prefetched jobs; return those that nobody has stolen."""
        return [Claimed._make(row) for row in await connection.fetch(self._sql["start"], lease_id, ids)]

    async def steal(
        self, connection: Connection, lease_id: UUID, limit: int, lanes: Sequence[int]
    ) -> list[tuple[UUID, int, int]]:
        """Take over what others have prefetched; return (job id, lane, position) of each."""
        rows = await connection.fetch(self._sql["steal"], lease_id, limit, lanes)
        return [tuple(row) for row in rows]

    async def sweep(self, connection: Connection, lanes: Iterable[int]) -> dict[int, int]:
        """Return the first position of each of *lanes* that has ready jobs."""
        rows = await connection.fetch(self._sql["sweep"], list(lanes))
        return {row["lane"]: row["position"] for row in rows}

    # Ending attempts. Each returns the jobs that were still under the lease.

    async def finish(
        self,
        connection: Connection,
        lease_id: UUID,
        worker: str,
        ids: Sequence[UUID],
        results: Sequence[str] | None,
    ) -> Collection[UUID]:
        """Record successes. *results* are JSON; None: none are kept."""
        row = await connection.fetchrow(
            self._sql["finish"],
            lease_id,
            _ids(ids),
            None if results is None else f"[{','.join(results)}]",
            worker,
        )
        assert row is not None
        if row["count"] == len(ids):
            return ids
        return set(row["ids"] or ())

    async def retry(
        self, connection: Connection, lease_id: UUID, worker: str, outcomes: Sequence[Retry]
    ) -> set[UUID]:
        """Schedule the next attempts."""
        rows = await connection.fetch(
            self._sql["retry"],
            lease_id,
            [outcome.job_id for outcome in outcomes],
            [_interval(outcome.delay) for outcome in outcomes],
            worker,
            [outcome.reason for outcome in outcomes],
            [_error_json(outcome.error) for outcome in outcomes],
            [outcome.spent for outcome in outcomes],
            _used([outcome.not_before for outcome in outcomes]),
            _used([outcome.options for outcome in outcomes]),
            _used([outcome.arguments for outcome in outcomes]),
        )
        return {row[0] for row in rows}

    async def fail(
        self, connection: Connection, lease_id: UUID, worker: str, outcomes: Sequence[Ended]
    ) -> set[UUID]:
        """End jobs without success."""
        rows = await connection.fetch(
            self._sql["fail"],
            lease_id,
            [outcome.job_id for outcome in outcomes],
            [outcome.status for outcome in outcomes],
            worker,
            [outcome.reason for outcome in outcomes],
            [_error_json(outcome.error) for outcome in outcomes],
        )
        return {row[0] for row in rows}

    async def release(
        self, connection: Connection, lease_id: UUID, worker: str, ids: Sequence[UUID]
    ) -> dict[UUID, int]:
        """Give jobs back unspent; return their lanes by id."""
        rows = await connection.fetch(self._sql["release"], lease_id, ids, worker)
        return {row["id"]: row["lane"] for row in rows}

    async def release_unknown(
        self, connection: Connection, lease_id: UUID, known: Iterable[UUID]
    ) -> list[UUID]:
        """Give back, unspent, the jobs of a locked lease that its worker does not know of; return them."""
        return [row[0] for row in await connection.fetch(self._sql["release_unknown"], lease_id, list(known))]

    async def put_aside(
        self, connection: Connection, lease_id: UUID, outcomes: Sequence[Unknown]
    ) -> dict[UUID, int]:
        """Give jobs of unknown tasks back, into their tasks' own lanes; return those by id."""
        rows = await connection.fetch(
            self._sql["put_aside"],
            lease_id,
            [outcome.job_id for outcome in outcomes],
            [outcome.task for outcome in outcomes],
        )
        return {row["id"]: row["lane"] for row in rows}

    # What a handler does by its context

    async def confirm(self, connection: Connection, job_id: UUID, lease_id: UUID) -> bool:
        """Return whether a job runs under a lease."""
        return bool(await connection.fetchval(self._sql["confirm"], job_id, lease_id))

    async def read_steps(self, connection: Connection, job_id: UUID) -> dict[str, str]:
        """Return the stored results of a job's steps, by their names."""
        return {row["name"]: row["result"] for row in await connection.fetch(self._sql["read_steps"], job_id)}

    async def record_step(
        self, connection: Connection, job_id: UUID, lease_id: UUID, name: str, result: str
    ) -> str | None:
        """Store a step's result; return the one that was stored first. None: the lease was lost."""
        stored: str | None = await connection.fetchval(
            self._sql["record_step"], job_id, lease_id, name, result
        )
        return stored

    async def report_progress(
        self, connection: Connection, reports: Sequence[tuple[UUID, UUID, str]]
    ) -> None:
        """Note how far jobs have come, given (lease id, job id, JSON) of each."""
        await connection.execute(self._sql["report_progress"], *zip(*reports, strict=True))

    # Leases

    async def register_lease(
        self,
        connection: Connection,
        lease_id: UUID,
        worker: str,
        queues: Sequence[str],
        ttl: float,
        *,
        prefetch: int,
        lock_key: int | None,
        max_losses: Mapping[str, int],
        version: str | None = None,
        tasks: Iterable[str] | None = None,
    ) -> None:
        """Take a lease. *tasks*: that the worker knows; None: it does not say, and may know all."""
        await connection.execute(
            self._sql["register_lease"],
            lease_id,
            worker,
            queues,
            timedelta(seconds=ttl),
            prefetch,
            lock_key,
            json.dumps(dict(max_losses)),
            version,
            None if tasks is None else list(tasks),
        )

    async def renew_lease(self, connection: Connection, lease_id: UUID, ttl: float) -> bool:
        """Extend a lease; False: it has run out."""
        renewed = await connection.fetchval(self._sql["renew_lease"], lease_id, timedelta(seconds=ttl))
        return renewed is not None

    async def hold_lock(self, connection: Connection, key: int) -> bool:
        """Hold an advisory lock as long as *connection* lives; False: another session has it still."""
        return bool(await connection.fetchval(self._sql["hold_lock"], key))

    async def lock_lease(self, connection: Connection, lease_id: UUID) -> None:
        """Lock a lease for the transaction, once no claim under it is under way."""
        await connection.execute(self._sql["lock_lease"], lease_id)

    async def delete_lease(self, connection: Connection, lease_id: UUID) -> bool:
        """Remove a lease that holds no jobs; False: it holds some, or is gone."""
        return await connection.fetchval(self._sql["delete_lease"], lease_id) is not None

    async def lock_expired_leases(self, connection: Connection) -> list[tuple[UUID, str]]:
        """Lock leases that have run out, for the transaction; return (lease id, worker) of each."""
        return [
            (row["id"], row["worker"]) for row in await connection.fetch(self._sql["lock_expired_leases"])
        ]

    async def find_silent_leases(self, connection: Connection, own: UUID) -> dict[UUID, datetime]:
        """Return the leases whose process let go of its lock, with the time of their last renewal."""
        rows = await connection.fetch(self._sql["find_silent_leases"], own)
        return {row["id"]: row["renewed_at"] for row in rows}

    async def expire_lease(self, connection: Connection, lease_id: UUID, renewed_at: datetime) -> bool:
        """Let a lease run out now unless it was renewed since *renewed_at*."""
        return await connection.fetchval(self._sql["expire_lease"], lease_id, renewed_at) is not None

    async def rescue(
        self, connection: Connection, lease_id: UUID, limit: int, max_losses: int
    ) -> list[Rescued]:
        """Take jobs of an expired, locked lease back."""
        rows = await connection.fetch(self._sql["rescue"], lease_id, limit, max_losses)
        return [
            Rescued(
                id=row["id"],
                task=row["task"],
                lane=row["lane"],
                status=JobStatus(row["status"]),
                queue=row["queue"],
                attempt=row["attempt"],
                was_running=row["was_running"],
            )
            for row in rows
        ]

    # Maintenance

    async def promote(self, connection: Connection, limit: int) -> Promoted:
        """Move due scheduled jobs to ready."""
        row = await connection.fetchrow(self._sql["promote"], limit)
        assert row is not None
        return Promoted(row["promoted"], row["lanes"], row["next_in"])

    async def fail_unknown(
        self, connection: Connection, grace: float, known: Iterable[str], limit: int
    ) -> list[tuple[UUID, str]]:
        """Fail jobs put aside for longer than *grace* seconds; return (job id, task) of each."""
        rows = await connection.fetch(self._sql["fail_unknown"], timedelta(seconds=grace), list(known), limit)
        return [tuple(row) for row in rows]

    async def find_waiting_aside(self, connection: Connection, seconds: float) -> list[str]:
        """Return the tasks whose jobs have been put aside and wait for longer than *seconds*."""
        rows = await connection.fetch(self._sql["find_waiting_aside"], timedelta(seconds=seconds))
        return [row["task"] for row in rows]

    async def expire(self, connection: Connection, limit: int) -> list[UUID]:
        """End jobs that wait and were not started by their expiry; return them."""
        return [row[0] for row in await connection.fetch(self._sql["expire"], limit)]

    async def make_partitions(self, connection: Connection, days_ahead: int) -> int:
        """Make missing partitions; return how many were made."""
        made = await connection.fetchval(self._sql["make_partitions"], days_ahead)
        assert isinstance(made, int)
        return made

    async def unblock(self, connection: Connection, limit: int) -> list[int]:
        """Move jobs on whose predecessor is over; return the lanes that got ready ones."""
        return [row["lane"] for row in await connection.fetch(self._sql["unblock"], limit)]

    async def purge_keys(self, connection: Connection, limit: int) -> int:
        """Remove idempotency keys that are not held any more; return how many were looked at."""
        return int(await connection.fetchval(self._sql["purge_keys"], limit))

    async def purge_inbox(self, connection: Connection, limit: int) -> int:
        """Forget processed events whose time is over; return how many."""
        return int(await connection.fetchval(self._sql["purge_inbox"], limit))

    # Lists

    async def list_jobs(
        self, connection: Connection, chosen: JobFilter, low: UUID, high: UUID, *, looks: int, limit: int
    ) -> Found:
        """Look at the *looks* newest jobs of a range of ids; find up to *limit* that the filter takes in."""
        sql = self._sql["list_live"] if chosen.is_live else self._sql["list_jobs"]
        row = await connection.fetchrow(
            sql,
            None if chosen.statuses is None else sorted(chosen.statuses),
            chosen.task,
            chosen.queue,
            chosen.tag,
            chosen.key,
            chosen.created_after,
            chosen.created_before,
            looks,
            low,
            high,
            limit,
            *(() if chosen.is_live else chosen.window),
        )
        assert row is not None
        return Found._make(row)

    async def cancel_jobs(
        self, connection: Connection, ids: Sequence[UUID], reason: str | None, actor: str | None
    ) -> dict[UUID, str | None]:
        """Cancel jobs; return the answer for each, as `cancel` gives it."""
        rows = await connection.fetch(self._sql["cancel_jobs"], ids, reason, actor)
        return {row["job_id"]: row["answer"] for row in rows}

    async def requeue_jobs(
        self,
        connection: Connection,
        ids: Sequence[UUID],
        statuses: Iterable[JobStatus],
        reason: str | None,
        actor: str | None,
    ) -> tuple[int, Sequence[int]]:
        """Make terminal jobs pending again; return how many, and their lanes."""
        row = await connection.fetchrow(self._sql["requeue_jobs"], ids, sorted(statuses), reason, actor)
        assert row is not None
        return row["requeued"], row["lanes"]

    # Retention

    async def take_chore(self, connection: Connection, name: str, holder: UUID, seconds: float) -> bool:
        """Begin or keep a chore that one worker does at a time; False: it is not to be begun now."""
        taken = await connection.fetchval(self._sql["take_chore"], name, holder, timedelta(seconds=seconds))
        return taken is not None

    async def leave_chore(self, connection: Connection, name: str, holder: UUID, seconds: float) -> None:
        """Let a chore rest."""
        await connection.execute(self._sql["leave_chore"], name, holder, timedelta(seconds=seconds))

    async def find_day_partitions(self, connection: Connection, seconds: float) -> list[Partition]:
        """Return the day partitions, oldest first."""
        rows = await connection.fetch(self._sql["find_day_partitions"], timedelta(seconds=seconds))
        return [Partition._make(row) for row in rows]

    async def examine(
        self, connection: Connection, low: UUID, high: UUID, limit: int, retention: Retention
    ) -> Step:
        """Look at the next jobs of a range of ids."""
        row = await connection.fetchrow(self._sql["examine"], low, high, limit, *_intervals(retention))
        assert row is not None
        return Step(row["looked"], row["reached"], are_past=row["are_past"])

    async def purge(
        self, connection: Connection, low: UUID, high: UUID, limit: int, retention: Retention
    ) -> Step:
        """Look at the next jobs of a range of ids and remove those past their retention."""
        row = await connection.fetchrow(self._sql["purge"], low, high, limit, *_intervals(retention))
        assert row is not None
        return Step(row["looked"], row["reached"], removed=row["removed"])

    async def forget_range(self, connection: Connection, low: UUID, high: UUID) -> None:
        """Remove what other tables keep of jobs in a range of ids."""
        await connection.execute(self._sql["forget_range"], low, high)

    async def drop_partition(self, connection: Connection, partition: Partition) -> bool:
        """Drop a day partition that has no live job; False: not now."""
        return bool(await connection.fetchval(self._sql["drop_partition"], *partition[:3]))

    # Cancelling

    async def cancel(
        self, connection: Connection, job_id: UUID, reason: str | None, actor: str | None = None
    ) -> str | None:
        """Cancel a job: "cancelled", "requested", or None for one that is terminal or unknown."""
        answer: str | None = await connection.fetchval(self._sql["cancel"], job_id, reason, actor)
        return answer

    async def find_cancel_requests(self, connection: Connection, lease_id: UUID) -> list[UUID]:
        """Return the jobs of a lease that somebody asked to cancel."""
        return [row[0] for row in await connection.fetch(self._sql["find_cancel_requests"], lease_id)]

    async def settle_cancel_requests(self, connection: Connection) -> None:
        """Carry out or drop requests whose attempt has ended."""
        await connection.execute(self._sql["settle_cancel_requests"])

    # Settings

    async def set_paused(
        self,
        connection: Connection,
        kind: Kind,
        name: str,
        *,
        paused: bool,
        actor: str | None,
        reason: str | None,
    ) -> bool:
        """Pause or resume a queue or a task; False: it is so already."""
        return bool(await connection.fetchval(self._sql["set_paused"], kind, name, paused, actor, reason))

    async def await_claims(self, connection: Connection) -> None:
        """Wait for every claim that is under way."""
        await connection.execute(self._sql["await_claims"])

    async def return_paused(self, connection: Connection) -> None:
        """Give back what workers have prefetched of paused lanes."""
        await connection.execute(self._sql["return_paused"])

    async def configure(
        self, connection: Connection, task: str, options: str | None, *, actor: str | None, reason: str | None
    ) -> None:
        """Set a task's options, as JSON; None: those of its declaration alone."""
        await connection.execute(self._sql["configure"], task, options, actor, reason)

    async def read_settings(self, connection: Connection) -> Settings:
        """Return what is paused and configured, as a worker heeds it."""
        rows = await connection.fetch(self._sql["read_settings"])
        return Settings.of(
            (row["kind"], row["name"], row["paused_at"] is not None, row["options"]) for row in rows
        )

    async def list_settings(self, connection: Connection) -> list[Setting]:
        """Return what is paused and configured, as an operator reads it."""
        return [
            Setting(
                kind=row["kind"],
                name=row["name"],
                paused_at=row["paused_at"],
                options=json.loads(row["options"] or "{}"),
                actor=row["actor"],
                reason=row["reason"],
                changed_at=row["changed_at"],
            )
            for row in await connection.fetch(self._sql["read_settings"])
        ]

    # Reading

    async def read_jobs(self, connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Job]:
        """Return the jobs with *ids* that exist."""
        rows = await connection.fetch(self._sql["read_jobs"], list(ids))
        return {row["id"]: _job(row) for row in rows}

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
                error=_error(row["error"]),
            )
            for row in rows
        ]

    async def measure(self, connection: Connection, cap: int) -> list[Measure]:
        """Return what each queue holds, counting at most *cap* jobs of a lane."""
        return [Measure(*row) for row in await connection.fetch(self._sql["measure"], cap)]

    # Messages

    async def notify(self, connection: Connection, channel: str, messages: Sequence[str]) -> None:
        """Send *messages* to everybody who listens on *channel*."""
        await connection.execute(self._sql["notify"], channel, messages)


def _new_jobs(jobs: NewJobs) -> tuple[Any, ...]:
    templates = jobs.templates
    return (
        _ids(jobs.ids),
        f"[{','.join(jobs.documents)}]",
        jobs.numbers if len(templates) > 1 else None,
        [template.lane[0] for template in templates],
        [template.lane[1] for template in templates],
        [template.task for template in templates],
        _used([template.expires_at for template in templates]),
        _used([_interval(template.expires_after) for template in templates]),
        _used([template.options for template in templates]),
        _used([template.headers for template in templates]),
        _used([template.tags for template in templates]),
        _used([template.key for template in templates]),
    )


def _key_rows(rows: Iterable[KeyRow]) -> str:
    return json.dumps(
        [
            {
                "id": str(row.id),
                "scope": row.scope,
                "key": row.key,
                "job_id": str(row.job_id),
                "span": row.span,
                "fingerprint": row.fingerprint,
                "window": row.window,
            }
            for row in rows
        ]
    )


def _replacement(job_id: UUID, document: str, template: Template) -> dict[str, Any]:
    return {
        "job_id": str(job_id),
        "task": template.task,
        "arguments": document,
        "queue": template.lane[0],
        "priority": template.lane[1],
        "run_at": template.run_at and template.run_at.isoformat(),
        "delay": template.delay,
        "expires_at": template.expires_at and template.expires_at.isoformat(),
        "expires_after": template.expires_after,
        "options": template.options,
        "headers": template.headers,
        "tags": template.tags,
        "key": template.key,
    }


def _ids(ids: Iterable[UUID]) -> str:
    # As text: asyncpg asks each element of a list twice, through Python, whether it is itself a list.
    return f"{{{','.join(map(str, ids))}}}"


def _used(column: list[Any]) -> list[Any] | None:
    return None if column.count(None) == len(column) else column


def _interval(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _intervals(retention: Retention) -> Iterable[timedelta | None]:
    return map(_interval, (retention.succeeded, retention.failed, retention.cancelled, retention.expired))


def _job(row: Record) -> Job:
    return Job(
        id=row["id"],
        status=JobStatus(row["status"]),
        queue=row["queue"],
        priority=row["priority"],
        task=row["task"],
        arguments=json.loads(row["arguments"]),
        attempt=row["attempt"],
        losses=row["losses"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        next_run_at=row["next_run_at"],
        run_at=row["run_at"],
        expires_at=row["expires_at"],
        worker=row["worker"],
        result=None if row["result"] is None else json.loads(row["result"]),
        has_result=row["result"] is not None,
        reason=row["reason"],
        error=_error(row["error"]),
        last_reason=row["last_reason"],
        last_error=_error(row["last_error"]),
        tags=tuple(row["tags"] or ()),
        key=row["key"],
        headers=json.loads(row["headers"] or "{}"),
        progress=None if row["progress"] is None else decode_progress(row["progress"]),
    )


def _error(stored: str | None) -> JobError | None:
    if stored is None:
        return None
    error = json.loads(stored)
    return JobError(error["type"], error["message"], error.get("traceback"))


def _error_json(error: JobError | None) -> str | None:
    if error is None:
        return None
    return json.dumps({"type": error.type, "message": error.message, "traceback": error.traceback})
