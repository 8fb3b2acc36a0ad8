"""When the queues changed, for pages that show them: one look for any number of listeners.

Nothing runs in the background: one of those who listen looks, for all of them, and the next one takes over
when it leaves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.errors import DatabaseUnavailableError, PgQueueError
from pgqueue.model.documents import queue_document
from pgqueue.model.measures import QueueMeasure
from pgqueue.web.http.etags import encode, version_of
from pgqueue.web.live.job_events import Event

logger = logging.getLogger("pgqueue.web")

INTERVAL = 2.0
"""Seconds between two looks, at least."""
REST = 9
"""A look that took a while is not repeated for so many times as long."""
PASSING_BY = ("oldest_age", "wait", "run", "drain")
"""What of a queue moves with time alone, or with its rates."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found: the version of each queue, and of all together."""

    queues: Mapping[str, str]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def version(self) -> str:
        """Return what is another text whenever a queue has another version."""
        return version_of(self.queues)

    def changed_since(self, before: Mapping[str, str]) -> list[str]:
        """Return the queues that are not as they were, and those that were not, by name."""
        names = self.queues.keys() | before.keys()
        return sorted(name for name in names if self.queues.get(name) != before.get(name))


def sight_of(measures: Sequence[QueueMeasure]) -> Sight:
    """Return what is to be seen of *measures*."""
    documents = [queue_document(measure) for measure in measures]
    return Sight(
        {
            document["queue"]: version_of({
                name: round(value, 1) if isinstance(value, float) else value
                for name, value in document.items()
                if name not in PASSING_BY
            })
            for document in documents
        }
    )  # fmt: skip


class Ticker:
    """Tells listeners when queues changed."""

    def __init__(self, measure: Callable[[], Awaitable[Sequence[QueueMeasure]]]) -> None:
        self._measure = measure
        self._turn = anyio.Lock()
        self._sight: Sight | None = None
        self._due = float("-inf")

    async def listen(self, *, seen: str | None) -> AsyncGenerator[Event]:
        """Yield `tick` now, unless the queues are as in version *seen*, and whenever some changed.

        The first one names all queues. Ends when the PgQueue is closed.
        """
        known: Mapping[str, str] = {}
        try:
            while True:
                sight = await self._other_than(seen)
                data, _ = encode({"at": sight.at.isoformat(), "queues": sight.changed_since(known)})
                seen, known = sight.version, sight.queues
                yield Event("tick", seen, data)
        except PgQueueError as error:
            logger.info("event stream of queues ends: %s", error)

    async def _other_than(self, version: str | None) -> Sight:
        """Return the first sight of queues that have another version than *version*."""
        while True:
            if self._sight is not None and time.monotonic() < self._due and self._sight.version != version:
                return self._sight
            async with self._turn:
                # Somebody else may have looked while this one waited for its turn.
                if self._sight is None or self._sight.version == version or time.monotonic() >= self._due:
                    await anyio.sleep(max(0.0, self._due - time.monotonic()))
                    await self._look()

    async def _look(self) -> None:
        started = time.monotonic()
        try:
            self._sight = sight_of(await self._measure())
        except (*CONNECTION_ERRORS, DatabaseUnavailableError) as error:
            logger.warning("queues are not looked at: %s; next try in %g s", error, INTERVAL)
        # Only here: where looking is over for good, those who wait for their turn are not to wait for a look.
        ended = time.monotonic()
        self._due = ended + max(INTERVAL, REST * (ended - started))
