"""When the queues changed, for pages that show them: one measure for any number of listeners.

Nothing runs in the background: one of the listeners measures for all of them, and another takes over when it
leaves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from pgqueue.database.outages import PASSING_ERRORS
from pgqueue.database.patience import Reminder
from pgqueue.errors import PgQueueError, RefusedByDatabaseError
from pgqueue.model.documents import queue_document
from pgqueue.model.measures import QueueMeasure
from pgqueue.web.http.etags import encode, version_of
from pgqueue.web.live.job_events import Event

logger = logging.getLogger("pgqueue.web")

INTERVAL = 2.0
"""Least number of seconds between two measures."""
REST_FACTOR = 9
"""After a measure the queues rest for at least this many times its duration."""
VOLATILE = ("oldest_age", "wait", "run", "drain")
"""Fields of a queue that change with time alone, or with its rates."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The result of a measure: the version of each queue, and of all together."""

    queues: Mapping[str, str]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def version(self) -> str:
        """Return a text that differs whenever a queue has another version."""
        return version_of(self.queues)

    def changed_since(self, before: Mapping[str, str]) -> list[str]:
        """Return the names of queues that changed, appeared or disappeared."""
        names = self.queues.keys() | before.keys()
        return sorted(name for name in names if self.queues.get(name) != before.get(name))


def snapshot_of(measures: Sequence[QueueMeasure]) -> Snapshot:
    """Return the versions of what was measured."""
    documents = [queue_document(measure) for measure in measures]
    return Snapshot(
        {
            document["queue"]: version_of({
                name: round(value, 1) if isinstance(value, float) else value
                for name, value in document.items()
                if name not in VOLATILE
            })
            for document in documents
        }
    )  # fmt: skip


class Ticker:
    """Tells listeners when queues changed."""

    def __init__(self, measure: Callable[[], Awaitable[Sequence[QueueMeasure]]]) -> None:
        self._measure = measure
        self._turn = anyio.Lock()
        self._snapshot: Snapshot | None = None
        self._reminder = Reminder()
        self._due = float("-inf")

    async def listen(self, *, seen: str | None) -> AsyncGenerator[Event]:
        """Yield `tick` now, unless the queues are as in version *seen*, and whenever some changed.

        The first one names all queues. Ends when the PgQueue is closed.
        """
        known: Mapping[str, str] = {}
        try:
            while True:
                snapshot = await self._other_than(seen)
                data, _ = encode({"at": snapshot.at.isoformat(), "queues": snapshot.changed_since(known)})
                seen, known = snapshot.version, snapshot.queues
                yield Event("tick", seen, data)
        except PgQueueError as error:
            logger.info("event stream of queues ends: %s", error)

    async def _other_than(self, version: str | None) -> Snapshot:
        """Return the first snapshot of another version than *version*."""
        while True:
            if (
                self._snapshot is not None
                and time.monotonic() < self._due
                and self._snapshot.version != version
            ):
                return self._snapshot
            async with self._turn:
                # Another listener may have measured while this one waited for its turn.
                if (
                    self._snapshot is None
                    or self._snapshot.version == version
                    or time.monotonic() >= self._due
                ):
                    await anyio.sleep(max(0.0, self._due - time.monotonic()))
                    await self._measure_again()

    async def _measure_again(self) -> None:
        started = time.monotonic()
        try:
            self._snapshot = snapshot_of(await self._measure())
        except (*PASSING_ERRORS, RefusedByDatabaseError) as error:
            logger.log(
                self._reminder.level(),
                "the queues could not be measured: %s; next try in %g s",
                error,
                INTERVAL,
            )
        # Only here: after a closed PgQueue has raised, other listeners must not wait before they raise too.
        ended = time.monotonic()
        self._due = ended + max(INTERVAL, REST_FACTOR * (ended - started))
