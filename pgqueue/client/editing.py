"""Waiting jobs are edited: their queue, priority, run time and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from pgqueue.client.dead_letters import DeadLetterInterface
from pgqueue.client.jobs import JobInterface
from pgqueue.errors import InvalidOptionError, JobNotWaitingError
from pgqueue.model.checks import check_notes
from pgqueue.model.ids import read_id
from pgqueue.options.levels import read_options
from pgqueue.options.table import Level
from pgqueue.tasks.codec import encode_document


class EditInterface(JobInterface, DeadLetterInterface):
    """What operators can change of a job that waits."""

    async def edit(
        self,
        job_id: UUID | str,
        *,
        queue: str | None = None,
        priority: int | None = None,
        run_at: datetime | None = None,
        arguments: Mapping[str, Any] | None = None,
        reason: str | None = None,
        actor: str | None = None,
    ) -> None:
        """Change a job while it waits; what is None stays as it is. The history says what was changed.

        *arguments*: all of them, by name; checked against the task's types if this process declares it.
        *run_at*: the time of its first start, or of its retry; `run_now` starts it at once. Raises
        JobNotWaitingError once it runs or has ended; InvalidOptionError where the jobs before it have settled
        what would be changed, or its keys in limits may come from its arguments and this process does not
        declare its task; JobNotFoundError, InvalidArgumentsError, PayloadTooLargeError,
        RedactedArgumentsError, UnknownQueueError. Then nothing was changed.

        Its limits are those of its new queue, with the keys of its new arguments: it gives back what it no
        longer needs, and waits for what it has not passed.
        """
        job_id = read_id(job_id)
        given = {"queue": queue, "priority": priority, "run_at": run_at}
        options = read_options(
            "edit", {name: value for name, value in given.items() if value is not None}, Level.CALL
        )
        if queue is not None:
            self._check_declared("edit", queue)
        if not options and arguments is None:
            raise InvalidOptionError("edit: pass at least one of queue, priority, run_at and arguments")
        check_notes("edit", actor=actor, reason=reason)
        job = await self.get(job_id)
        document = None if arguments is None else self._encode_arguments(job, arguments)
        gates = await self._gates_there(job, queue, document)
        if document is not None:
            document = encode_document(self._codec, document)
        async with self._database.acquire() as connection:
            try:
                await self._store.edit_job(
                    connection,
                    job_id,
                    queue=queue,
                    priority=priority,
                    run_at=options.get("run_at"),
                    arguments=document,
                    gates=gates,
                    reason=reason,
                    actor=actor,
                )
            except asyncpg.NoDataFoundError:
                raise await self._missing(connection, job_id) from None
            except asyncpg.RestrictViolationError:
                jobs = await self._store.read_jobs(connection, [job_id])
                raise JobNotWaitingError(job_id, jobs[job_id].status) from None
            except asyncpg.ObjectNotInPrerequisiteStateError as error:
                raise InvalidOptionError(f"edit: {error}; cancel it and enqueue another one") from None
