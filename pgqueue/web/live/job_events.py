"""The events of a job's stream, and of a workflow's."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple
from uuid import UUID

from pgqueue.app import PgQueue
from pgqueue.errors import PgQueueError
from pgqueue.model.documents import job_document
from pgqueue.model.workflow_documents import workflow_document
from pgqueue.model.workflows import WorkflowDetails
from pgqueue.web.http.etags import encode
from pgqueue.web.live.workflow_changes import WorkflowChanges

logger = logging.getLogger("pgqueue.web")


class Event(NamedTuple):
    """An event. `version` comes back as Last-Event-ID from a client that reconnects."""

    name: str
    version: str
    data: str


async def changes_of_job(pgq: PgQueue, job_id: UUID, *, seen: str | None) -> AsyncGenerator[Event]:
    """Yield the job's document now, unless that is version *seen*, and after each change, to its end."""
    try:
        async with aclosing(pgq.watch(job_id)) as jobs:
            async for job in jobs:
                data, version = encode(job_document(job))
                # Not every change of a job shows in its document.
                if version != seen:
                    seen = version
                    yield Event("job", version, data)
    except PgQueueError as error:
        # It was removed, or this process is closing. A client that reconnects is told.
        logger.info("event stream of job %s ends: %s", job_id, error)


async def changes_of_workflow(
    changes: WorkflowChanges, now: WorkflowDetails, *, seen: str | None
) -> AsyncGenerator[Event]:
    """Yield the workflow's document now, unless that is version *seen*, and after each change, to its end."""
    try:
        async with aclosing(changes.watch(now)) as workflows:
            async for workflow in workflows:
                data, version = encode(workflow_document(workflow))
                if version != seen:
                    seen = version
                    yield Event("workflow", version, data)
    except PgQueueError as error:
        logger.info("event stream of workflow %s ends: %s", now.id, error)
