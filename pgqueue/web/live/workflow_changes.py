"""Changes of workflows, for long polls and event streams: one read for any number of listeners.

The end of a group is no job, and nothing announces it. So one of the listeners to a workflow reads it for all
of them, and another takes over when it leaves. Nothing runs in the background.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import anyio

from pgqueue.app import PgQueue
from pgqueue.database.outages import PASSING_ERRORS
from pgqueue.database.patience import Reminder
from pgqueue.errors import RefusedByDatabaseError
from pgqueue.model.workflows import WorkflowDetails

logger = logging.getLogger("pgqueue.web")

INTERVAL: Final = 0.5
"""Least number of seconds between two reads of one workflow."""
REST_FACTOR: Final = 9
"""After a read the workflow rests for at least this many times its duration: it counts all its jobs."""


@dataclass(slots=True)
class _Watched:
    """A workflow that somebody listens to."""

    turn: anyio.Lock = field(default_factory=anyio.Lock)
    reads: int = 0
    latest: WorkflowDetails | None = None
    due: float = float("-inf")
    listeners: int = 0
    reminder: Reminder = field(default_factory=Reminder)


class WorkflowChanges:
    """Reads workflows for those who listen to them."""

    def __init__(self, pgq: PgQueue) -> None:
        self._pgq = pgq
        self._watched: dict[UUID, _Watched] = {}

    async def watch(self, now: WorkflowDetails) -> AsyncGenerator[WorkflowDetails]:
        """Yield *now*, which was just read, and the workflow again whenever it changed, until it is over.

        Raises JobNotFoundError once it was removed, and NotOpenError once the PgQueue is closed.
        """
        watched = self._watched.setdefault(now.id, _Watched())
        watched.listeners += 1
        try:
            yield now
            reads = watched.reads
            while not now.is_over:
                reads, latest = await self._read_after(watched, now.id, reads)
                if latest is not None and latest != now:
                    now = latest
                    yield now
        finally:
            watched.listeners -= 1
            if not watched.listeners:
                del self._watched[now.id]

    async def _read_after(
        self, watched: _Watched, workflow_id: UUID, reads: int
    ) -> tuple[int, WorkflowDetails | None]:
        """Return the first state that was read after that many *reads*."""
        async with watched.turn:
            # Another listener may have read it while this one waited for its turn.
            if watched.reads <= reads:
                await anyio.sleep(max(0.0, watched.due - time.monotonic()))
                started = time.monotonic()
                try:
                    watched.latest = await self._pgq.workflow_details(workflow_id)
                except (*PASSING_ERRORS, RefusedByDatabaseError) as error:
                    logger.log(
                        watched.reminder.level(),
                        "workflow %s could not be read: %s; next try in %g s",
                        workflow_id,
                        error,
                        INTERVAL,
                    )
                ended = time.monotonic()
                watched.due = ended + max(INTERVAL, REST_FACTOR * (ended - started))
                watched.reads += 1
            return watched.reads, watched.latest
