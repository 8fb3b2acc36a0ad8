"""What the parts of a PgQueue's interface share."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgqueue.background.notifications import Signals
from pgqueue.background.reading import Reads
from pgqueue.background.watching import Watches
from pgqueue.database.pool import Database
from pgqueue.database.visibility import hidden_job, may_hide_jobs
from pgqueue.enqueueing.callers import Callers
from pgqueue.enqueueing.calls import CallReader
from pgqueue.enqueueing.inbox import Inbox
from pgqueue.enqueueing.workflow_writer import WorkflowWriter
from pgqueue.enqueueing.writer import Writer
from pgqueue.errors import (
    JobNotFoundError,
    JobPurgedError,
    MissingPrivilegeError,
    NotOpenError,
    UnknownQueueError,
)
from pgqueue.events.observers import Observers
from pgqueue.flow.backpressure import Depths
from pgqueue.flow.limits import Limits
from pgqueue.model.jobs import Job
from pgqueue.model.stored_json import decode_json
from pgqueue.model.unset import UNSET
from pgqueue.store import Store
from pgqueue.tasks.codec import Codec
from pgqueue.tasks.importable import Importable
from pgqueue.tasks.middleware import Middleware
from pgqueue.tasks.registry import Registry

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class Parts:
    """What a PgQueue consists of. It creates them; here they are only declared."""

    registry: Registry
    schema: str
    payload_limit: int
    _codec: Codec | None
    _importable: Importable
    _strict_queues: bool
    _database: Database
    _store: Store
    _signals: Signals
    _watches: Watches
    _reads: Reads
    _observers: Observers
    _depths: Depths
    _limits: Limits
    _reader: CallReader
    _writer: Writer
    _workflow_writer: WorkflowWriter
    _inbox: Inbox
    _callers: Callers
    _host: asyncio.Task[None] | None
    _reads_nothing: bool
    _enqueueing: tuple[Middleware, ...]
    """What is around each enqueue."""
    _around_workflows: tuple[Middleware, ...]
    """What is around each enqueue of a workflow."""

    def _check_open(self) -> None:
        if self._host is None:
            raise NotOpenError("this PgQueue is not open: use it inside `async with pgq:`")
        self._database.check_loop()

    def _check_reads(self) -> None:
        """Raise MissingPrivilegeError if the role may not read jobs: what it waits for would never come."""
        if self._reads_nothing:
            raise MissingPrivilegeError(
                f"the role of this PgQueue may not read jobs in schema {self.schema!r}"
            )

    def _check_declared(self, what: str, queue: object) -> None:
        if self._strict_queues and queue not in self.registry.queues:
            declared = ", ".join(sorted(self.registry.queues))
            raise UnknownQueueError(
                f"{what}: queue {queue!r} is not declared (declared: {declared}); "
                "declare it with `pgq.queue(...)`"
            )

    def _completed(self, job: Job) -> Job:
        """Return *job* with what this process knows about it."""
        max_attempts = self.registry.max_attempts(job.task, job.queue, job.options)
        if self._codec is None:
            return self._shown(replace(job, max_attempts=max_attempts))
        stored = {"arguments": job.arguments} | ({"result": job.result} if job.has_result else {})
        decoded: dict[str, Any] = {}
        undecodable = dict(job.undecodable)
        for what in stored.keys() - job.undecodable.keys():
            try:
                decoded[what] = decode_json(self._codec.decode(json.dumps(stored[what])))
            except Exception as error:
                # The codec is the user's and may raise anything. One job must not hide the others.
                undecodable[what] = f"{type(error).__name__}: {error}"
        return self._shown(replace(job, **decoded, undecodable=undecodable, max_attempts=max_attempts))

    def _shown(self, job: Job) -> Job:
        """Return *job* with its headers and its result as they may be shown."""
        if job.headers:
            headers = self.registry.redact_headers(job.task, job.queue, job.headers)
            job = job if headers is UNSET else replace(job, redacted_headers=headers)
        if not job.has_result:
            return job
        shown = self.registry.redact_result(job.task, job.result)
        return job if shown is UNSET else replace(job, redacted_result=shown)

    async def _missing(
        self, connection: Connection, job_id: UUID
    ) -> JobNotFoundError | MissingPrivilegeError:
        """Return the error for a job that does not exist, or that is hidden from this role."""
        if await may_hide_jobs(connection, self.schema):
            return hidden_job(job_id)
        if await self._store.is_day_removed(connection, job_id):
            return JobPurgedError(job_id)
        return JobNotFoundError(job_id)
