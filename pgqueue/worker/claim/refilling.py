"""Has windows of fair queues let more jobs through, where a worker with free slots finds its lanes empty.

A window lets the next jobs of its key through when jobs of that key end. Where jobs run for long, those that
stand ready are claimed before any ends, and slots would stay free. Claims know nothing of windows, so the
worker asks: after a claim that has emptied its lanes, and with each sweep.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from pgqueue.database.failing import log_fields, statement_of
from pgqueue.database.link import Link
from pgqueue.database.outages import is_away, told
from pgqueue.database.patience import Reminder
from pgqueue.events.kinds import WorkErrorIsolated
from pgqueue.events.observers import Observers
from pgqueue.store import Store
from pgqueue.upkeep.announcing import Announcer

logger = logging.getLogger("pgqueue.worker")

MOST: Final = 64
"""Windows that one statement looks at."""
DOING: Final = "refilling windows"
IN_VAIN: Final = 0.1
"""Seconds before it is asked again where no window had room: jobs wait for a limit beyond it, perhaps."""
PAUSE: Final = 5.0
"""Seconds before it is asked again after an error."""


class Refilling:
    """Asks for one worker."""

    def __init__(self, store: Store, link: Link, announcer: Announcer, observers: Observers) -> None:
        self.is_wanted = True
        """Whether jobs were claimed, or lanes swept, since it last asked."""
        self._store = store
        self._link = link
        self._announcer = announcer
        self._observers = observers
        self._not_before = float("-inf")
        self._reminder = Reminder()

    async def ask(self, lanes: Sequence[int], free: int) -> Sequence[int]:
        """Have jobs of *lanes* let through for *free* slots; return lanes with new ready jobs.

        An error stops no claim.
        """
        if not lanes or not self.is_wanted or time.monotonic() < self._not_before:
            return ()
        self.is_wanted = False
        try:
            async with self._link.use() as connection:
                # From anywhere: workers that ask at the same time help different keys.
                refilled = await self._store.refill(connection, lanes, uuid4(), MOST, free)
        except Exception as error:
            if is_away(error):
                raise
            self._not_before = time.monotonic() + PAUSE
            logger.log(
                self._reminder.level(logging.ERROR),
                "%s failed (%s); trying again in %g s, claims continue",
                DOING,
                told(error),
                PAUSE,
                extra=log_fields(error),
            )
            self._observers.emit(
                WorkErrorIsolated(DOING, type(error).__name__, statement=statement_of(error))
            )
            return ()
        if refilled.notes:
            self._announcer.noted(refilled.notes)
        if refilled.lanes or refilled.cancelled:
            self._announcer.committed(ready=refilled.lanes, ended=refilled.cancelled)
        if not refilled.found:
            self._not_before = time.monotonic() + IN_VAIN
        return refilled.lanes
