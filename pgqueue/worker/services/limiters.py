"""Has an attempt enter limiters: it asks until there is room, and gives back what it holds.

No connection is held meanwhile. Whoever leaves says so where others wait; that is a hint, and asking again
is the promise. What is not given back here (a lost connection, a killed process) is free when the attempt is
over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from itertools import chain, repeat
from typing import Final
from uuid import UUID, uuid4

from pgqueue.background.notifications import Signals
from pgqueue.database.patience import persist
from pgqueue.database.pool import Database
from pgqueue.errors import LeaseLostError
from pgqueue.own_tasks import own_task
from pgqueue.store import Store, Taken
from pgqueue.tasks.limiters import Allowed

logger = logging.getLogger("pgqueue.worker")

PAUSES: Final = (0.05, 0.1, 0.2, 0.4)
LAST_PAUSE: Final = 0.5
"""Seconds between two looks at what nobody has announced."""
SOONEST: Final = 0.01
LEAVE_WITHIN: Final = 1.0
"""Seconds for which a block that is left waits until what it held is given back. That goes on afterwards."""


class HeldLimiters:
    """The limiters of one attempt. *check_open* raises LeaseLostError once the attempt is over."""

    def __init__(
        self,
        database: Database,
        store: Store,
        signals: Signals | None,
        *,
        job_id: UUID,
        lease_id: UUID,
        check_open: Callable[[], None],
    ) -> None:
        self._database = database
        self._store = store
        self._signals = signals
        self._job_id = job_id
        self._lease_id = lease_id
        self._check_open = check_open
        self._leaving: set[asyncio.Task[None]] = set()

    async def enter(
        self,
        allowed: Allowed,
        wait: float | None,
    ) -> tuple[UUID | None, float | None]:
        """Return what the attempt holds now, or None and the seconds after which there may be room.

        Waits for up to *wait* seconds; None: for as long as the attempt goes on. Raises LeaseLostError.
        """
        hold = uuid4()
        ends_at = None if wait is None else time.monotonic() + wait
        try:
            taken = await self._ask(hold, allowed, waits=wait != 0)
            if taken.verdict == "waits":
                taken = await self._wait(hold, allowed, ends_at)
        except BaseException:
            # It may have been held, or its turn kept, all the same.
            self._begin_leaving(hold)
            raise
        return hold if taken.verdict == "held" else None, taken.retry_after

    async def leave(self, hold: UUID) -> None:
        """Give back what was held. Raises nothing, unless it is cancelled."""
        await asyncio.wait((self._begin_leaving(hold),), timeout=LEAVE_WITHIN)

    async def _wait(self, hold: UUID, allowed: Allowed, ends_at: float | None) -> Taken:
        async with self._hearing(allowed) as heard:
            for pause in chain(PAUSES, repeat(LAST_PAUSE)):
                # Before it looks: what is announced meanwhile must not be slept through.
                heard.clear()
                left = math.inf if ends_at is None else ends_at - time.monotonic()
                taken = await self._ask(hold, allowed, waits=left > 0)
                if taken.verdict != "waits":
                    return taken
                seconds = min(pause, left, pause if taken.retry_after is None else taken.retry_after)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), max(SOONEST, seconds))
        raise AssertionError("unreachable")

    async def _ask(self, hold: UUID, allowed: Allowed, *, waits: bool) -> Taken:
        async def ask() -> Taken:
            self._check_open()
            async with self._database.acquire() as connection:
                return await self._store.take_limiter(
                    connection, hold, allowed, self._job_id, self._lease_id, waits=waits
                )

        taken = await persist(f"job {self._job_id}: asking {allowed}", ask)
        if taken.verdict == "lost":
            raise LeaseLostError(
                f"job {self._job_id}: the lease was lost before it entered {allowed}; another attempt will"
            )
        return taken

    def _begin_leaving(self, hold: UUID) -> asyncio.Task[None]:
        leaving = own_task(self._leave(hold), name="pgqueue leaving a limiter")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        return leaving

    async def _leave(self, hold: UUID) -> None:
        async def leave() -> UUID | None:
            # Over: nothing is held any more.
            self._check_open()
            async with self._database.acquire() as connection:
                return await self._store.leave_limiter(connection, hold)

        try:
            limiter = await persist(f"job {self._job_id}: leaving a limiter", leave)
        except Exception as error:  # it is free at the end of the attempt
            logger.debug("job %s: a limiter is left with the attempt: %s", self._job_id, error)
            return
        if limiter is not None and self._signals is not None:
            self._signals.publish(f"limiter {limiter}")

    @contextlib.asynccontextmanager
    async def _hearing(self, allowed: Allowed) -> AsyncIterator[asyncio.Event]:
        """Yield what is set when somebody has left the limiter."""
        heard = asyncio.Event()
        if self._signals is None:
            yield heard
            return
        message = f"limiter {allowed.id}"

        def hear(said: str) -> None:
            if said == message:
                heard.set()

        async with self._signals.listen(hear, heard.set):
            yield heard
