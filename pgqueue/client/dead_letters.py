"""Dead letters: read, redriven and discarded; and the priority of waiting jobs changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg

from pgqueue.client.operation_handle import RedriveHandle
from pgqueue.client.parts import Parts
from pgqueue.errors import (
    InvalidFilterError,
    InvalidOptionError,
    JobNotFoundError,
    JobNotWaitingError,
    NotADeadLetterError,
    RedactedArgumentsError,
)
from pgqueue.events.kinds import JobMoved, JobsReopened
from pgqueue.flow.limits import Gate
from pgqueue.model.checks import check_notes, flag, number, shown, text
from pgqueue.model.dead_letters import (
    MAX_COUNT,
    MAX_PAGE,
    MAX_RATE,
    MIN_RATE,
    DeadLetterDetails,
    DeadLetterFilter,
    DeadLetterGroup,
    DeadLetterPage,
    decode_cursor,
    encode_cursor,
)
from pgqueue.model.filters import check_filter, check_limit
from pgqueue.model.ids import read_id
from pgqueue.model.jobs import Action, Job, JobStatus
from pgqueue.options.levels import read_options
from pgqueue.options.table import Level
from pgqueue.tasks.codec import encode_document
from pgqueue.tasks.payload import encode_by_name, is_json
from pgqueue.tasks.redaction import find_mark

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

DISCARD_BATCH = 1000
"""Dead letters in one transaction of a mass discard."""
NO_FILTER = DeadLetterFilter()


class DeadLetterInterface(Parts):
    """What operators can do with dead letters. `actor` and `reason` are recorded in the job's history."""

    # Looking

    async def dead_letters(
        self, wanted: DeadLetterFilter = NO_FILTER, *, limit: int = 100, cursor: str | None = None
    ) -> DeadLetterPage:
        """Return a page of dead letters, newest first. Reading changes nothing.

        *cursor*: that of the previous page. Raises InvalidFilterError.
        """
        return await self._letters(wanted, limit, cursor, None)

    async def owned_letters(
        self, owner: str, wanted: DeadLetterFilter = NO_FILTER, *, limit: int = 100, cursor: str | None = None
    ) -> DeadLetterPage:
        """Return a page of the dead letters of jobs whose header `owner` is *owner*. See `owned_jobs`.

        Raises InvalidFilterError.
        """
        text("owned_letters: owner", owner)
        return await self._letters(wanted, limit, cursor, owner)

    async def _letters(
        self, wanted: DeadLetterFilter, limit: int, cursor: str | None, owner: str | None
    ) -> DeadLetterPage:
        check_filter("dead_letters", wanted, DeadLetterFilter)
        check_limit(limit)
        behind = None if cursor is None else decode_cursor(cursor)
        async with self._database.acquire() as connection:
            # One more shows whether there is a next page.
            letters = await self._store.list_letters(connection, wanted, behind, limit + 1, owner=owner)
        is_last = len(letters) <= limit
        letters = letters[:limit]
        return DeadLetterPage(letters, None if is_last else encode_cursor(letters[-1]))

    async def dead_letter(self, job_id: UUID | str) -> DeadLetterDetails:
        """Return everything that is known about a dead letter. Reading changes nothing.

        Raises JobNotFoundError, NotADeadLetterError.
        """
        job_id = read_id(job_id)
        async with self._database.acquire() as connection:
            letters = await self._store.read_letters(connection, [job_id])
            job = await self._read_failed(connection, job_id)
            if not letters:
                raise NotADeadLetterError(job_id, job.status)
            payload = await self._store.read_payload(connection, job_id)
            attempts = await self._store.read_attempts(connection, job_id)
            actions = await self._store.read_actions(connection, job_id)
        if payload is None:
            raise JobNotFoundError(job_id)
        return DeadLetterDetails(letters[0], self._completed(job), payload, attempts, actions)

    async def dead_groups(
        self,
        *,
        task: str | None = None,
        reason: str | None = None,
        error_type: str | None = None,
        limit: int = 100,
        cap: int = 10_000,
    ) -> list[DeadLetterGroup]:
        """Return dead letters grouped by fingerprint, the latest failure first.

        Counts stop at *cap*, and at most MAX_PAGE fingerprints are read, so the cost is bounded. Raises
        InvalidFilterError.
        """
        check_limit(limit)
        if isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MAX_COUNT:
            raise InvalidFilterError(f"cap must be a number from 1 to {MAX_COUNT:,}, got {shown(cap)}")
        # For its checks.
        DeadLetterFilter(task=task, reason=reason, error_type=error_type)
        async with self._database.acquire() as connection:
            return await self._store.group_letters(
                connection,
                task=task,
                reason=reason,
                error_type=error_type,
                limit=limit,
                cap=cap,
                most=MAX_PAGE,
            )

    async def oldest_dead_letter_age(self) -> float | None:
        """Return the age of the oldest dead letter, in seconds; None: there are none."""
        async with self._database.acquire() as connection:
            return await self._store.read_oldest_age(connection)

    async def actions(self, job_id: UUID | str) -> list[Action]:
        """Return what operators did to a job, oldest first."""
        job_id = read_id(job_id)
        async with self._database.acquire() as connection:
            return await self._store.read_actions(connection, job_id)

    # One job

    async def redrive(
        self,
        job_id: UUID | str,
        *,
        queue: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        reset_attempts: bool = True,
        reason: str | None = None,
        actor: str | None = None,
    ) -> None:
        """Make a failed job pending again, under its id; its history stays.

        *queue*: move it to this queue, and its limits. *arguments*: new arguments by name, checked if this
        process declares the task; if all are JSON values, they are read as JSON, as stored ones are. Keys of
        limits and ordered groups are then computed anew; otherwise they stay. *reset_attempts*: False keeps
        the attempt count; the job then has at least one more attempt.
        Raises JobNotFoundError, NotADeadLetterError, InvalidArgumentsError, PayloadTooLargeError,
        RedactedArgumentsError, InvalidOptionError, UnknownQueueError; in that case nothing was changed.
        """
        job_id = read_id(job_id)
        self._check_queue(queue)
        flag("redrive: reset_attempts", reset_attempts)
        check_notes("redrive", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            job = self._completed(await self._read_failed(connection, job_id))
        document = None if arguments is None else self._encode_arguments(job, arguments)
        gates = await self._gates_there(job, queue, document)
        if document is not None:
            document = encode_document(self._codec, document)
        async with self._database.acquire() as connection:
            try:
                await self._store.redrive(
                    connection,
                    job_id,
                    queue=queue,
                    arguments=document,
                    gates=gates,
                    reset_attempts=reset_attempts,
                    reason=reason,
                    actor=actor,
                )
            except (asyncpg.NoDataFoundError, asyncpg.RestrictViolationError):
                # It was redriven, discarded or removed since it was read.
                await self._read_failed(connection, job_id)
                raise
            except asyncpg.ObjectNotInPrerequisiteStateError as error:
                raise InvalidOptionError(f"redrive: {error}") from None
        spent = 0 if reset_attempts else job.attempt
        moved = JobMoved(job_id, job.task, queue or job.queue, None, JobStatus.PENDING, spent)
        self._observers.emit(JobsReopened([moved], "redriven", reason))

    def preview_redrive(
        self, job: Job, *, arguments: Mapping[str, Any], queue: str | None = None
    ) -> dict[str, Any]:
        """Return the arguments that `redrive` would give *job*. No I/O.

        They are as the task's annotations encode them; a task that this process does not declare accepts any.
        Raises InvalidArgumentsError, PayloadTooLargeError, RedactedArgumentsError, InvalidOptionError,
        UnknownQueueError.
        """
        self._check_queue(queue)
        encoded: dict[str, Any] = json.loads(self._encode_arguments(job, arguments))
        return encoded

    async def discard(
        self, job_id: UUID | str, *, reason: str | None = None, actor: str | None = None
    ) -> bool:
        """Remove a failed job from the dead letters permanently; False: it was removed already.

        It stays failed, and its retention counts from its failure. Raises JobNotFoundError,
        NotADeadLetterError, InvalidOptionError.
        """
        job_id = read_id(job_id)
        check_notes("discard", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            await self._read_failed(connection, job_id)
            try:
                return await self._store.discard(connection, job_id, reason=reason, actor=actor)
            except (asyncpg.NoDataFoundError, asyncpg.RestrictViolationError):
                await self._read_failed(connection, job_id)
                raise

    async def reprioritise(
        self, job_id: UUID | str, priority: int, *, reason: str | None = None, actor: str | None = None
    ) -> None:
        """Change the priority of a waiting job: higher priorities run first.

        Raises JobNotFoundError, JobNotWaitingError, InvalidOptionError.
        """
        job_id = read_id(job_id)
        read_options("reprioritise", {"priority": priority}, Level.CALL)
        check_notes("reprioritise", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            try:
                await self._store.reprioritise(connection, job_id, priority, reason=reason, actor=actor)
            except asyncpg.NoDataFoundError:
                raise JobNotFoundError(job_id) from None
            except asyncpg.RestrictViolationError:
                jobs = await self._store.read_jobs(connection, [job_id])
                raise JobNotWaitingError(job_id, jobs[job_id].status) from None

    # Many

    async def redrive_many(
        self,
        wanted: DeadLetterFilter = NO_FILTER,
        *,
        all: bool = False,  # noqa: A002  # the word that says it
        rate: float = 100.0,
        queue: str | None = None,
        reset_attempts: bool = True,
        reason: str | None = None,
        actor: str | None = None,
    ) -> RedriveHandle:
        """Begin to redrive the dead letters that match *wanted*, oldest first, at *rate* jobs per second.

        Returns at once: workers do it in the background, and this process may end. Jobs that fail again
        meanwhile stay dead letters. *all*: confirms an empty filter, which matches every dead letter.
        *queue*: they move to this queue, and its limits. Raises InvalidFilterError, InvalidOptionError,
        UnknownQueueError.
        """
        _check_confirmed("redrive", wanted, is_all=all)
        number("redrive: rate", rate, unit="jobs per second", least=MIN_RATE, most=MAX_RATE)
        flag("redrive: reset_attempts", reset_attempts)
        check_notes("redrive", actor=actor, reason=reason)
        self._check_queue(queue)
        if queue is not None:
            await self._writer.declare(self._reader.limits_there("", queue))
        redrive_id = uuid4()
        async with self._database.acquire() as connection:
            await self._store.begin_redrive(
                connection,
                redrive_id,
                wanted,
                rate=float(rate),
                queue=queue,
                reset_attempts=reset_attempts,
                reason=reason,
                actor=actor,
            )
        return RedriveHandle(self._database, self._store, redrive_id)

    def redrive_handle(self, redrive_id: UUID | str) -> RedriveHandle:
        """Return a handle of a mass redrive by its id. No I/O: it may not exist."""
        redrive_id = read_id(redrive_id)
        return RedriveHandle(self._database, self._store, redrive_id)

    async def discard_many(
        self,
        wanted: DeadLetterFilter = NO_FILTER,
        *,
        all: bool = False,  # noqa: A002
        reason: str | None = None,
        actor: str | None = None,
    ) -> int:
        """Discard the dead letters that match *wanted*, in batches; return how many.

        If the call is interrupted, whole batches were discarded; call again to continue. *all*: confirms an
        empty filter, which matches every dead letter. Raises InvalidFilterError.
        """
        _check_confirmed("discard", wanted, is_all=all)
        check_notes("discard", actor=actor, reason=reason)
        async with self._database.acquire() as connection:
            newest = await self._store.list_letters(connection, wanted, None, 1)
        if not newest:
            return 0
        # Jobs that fail while this runs are not included.
        wanted = replace(wanted, failed_before=newest[0].failed_at + timedelta(microseconds=1))
        total = 0
        while True:
            async with self._database.acquire() as connection:
                count = await self._store.discard_some(
                    connection, wanted, DISCARD_BATCH, reason=reason, actor=actor
                )
            if not count:
                return total
            total += count

    # Checking

    async def _read_failed(self, connection: Connection, job_id: UUID) -> Job:
        jobs = await self._store.read_jobs(connection, [job_id])
        if job_id not in jobs:
            raise JobNotFoundError(job_id)
        if jobs[job_id].status is not JobStatus.FAILED:
            raise NotADeadLetterError(job_id, jobs[job_id].status)
        return jobs[job_id]

    def _check_queue(self, queue: str | None) -> None:
        if queue is None:
            return
        read_options("redrive", {"queue": queue}, Level.CALL)
        self._check_declared("redrive", queue)

    def shown_details(self, details: DeadLetterDetails) -> DeadLetterDetails:
        """Return *details* with the arguments that the option `redact` names replaced."""
        job = details.job
        shown = self.registry.redact(job.task, job.queue, job.arguments)
        if shown == job.arguments:
            return details
        return replace(details, job=replace(job, arguments=shown), payload=json.dumps(shown))

    async def _gates_there(
        self, job: Job, queue: str | None, document: str | None
    ) -> tuple[Gate, ...] | None:
        """Return what *job* passes in *queue* with the arguments *document*; None: it is not known here.

        None stands for what the job has. Raises InvalidArgumentsError.
        """
        is_new, there = document is not None, queue or job.queue
        if not is_new and there == job.queue:
            return None
        await self._writer.declare(self._reader.limits_there(job.task, there))
        if document is None:
            if not isinstance(job.arguments, dict):
                return None
            document = json.dumps(job.arguments)
        return self._reader.gates_there(job.task, there, document, is_new=is_new)

    def _encode_arguments(self, job: Job, arguments: Mapping[str, Any]) -> str:
        """Return new *arguments* for *job* as JSON. Raises InvalidArgumentsError."""
        mark = find_mark(dict(arguments), job.arguments)
        if mark is not None:
            raise RedactedArgumentsError(job.task, mark)
        definition = self.registry.get(job.task)
        if definition is None:
            return encode_by_name(job.task, (), arguments, limit=self.payload_limit)
        # Copied from where stored arguments are shown, or typed: JSON values are read as what is stored is.
        known = definition.arguments.for_json() if is_json(arguments) else definition.arguments
        return known.encode((), arguments, limit=self.payload_limit)


def _check_confirmed(what: str, wanted: DeadLetterFilter, *, is_all: bool) -> None:
    check_filter(what, wanted, DeadLetterFilter)
    if wanted.is_empty and not is_all:
        raise InvalidFilterError(
            f"{what}: the filter is empty and matches every dead letter; pass all=True to confirm"
        )
    if is_all and not wanted.is_empty:
        raise InvalidFilterError(f"{what}: all=True cannot be combined with a filter")
