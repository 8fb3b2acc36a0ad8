"""The events of a job's stream."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple
from uuid import UUID

from pgqueue.app import PgQueue
from pgqueue.errors import PgQueueError
from pgqueue.model.documents import job_document
from pgqueue.web.http.etags import encode

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
