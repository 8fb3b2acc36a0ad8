"""Time that tests need not wait for.

The database's clock is the only clock, and nobody can set that of a server. So all that is stored of time is
moved into the past instead: for jobs it is the same.
"""

from __future__ import annotations

from pgqueue.app import PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.model.checks import finite_seconds, positive_seconds, shown
from pgqueue.testing.opening import opened

_IN = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
"""Units of time in seconds."""


class Clock:
    """Lets time pass for what a PgQueue has stored, without sleeping.

        clock = Clock(pgq)
        await clock.advance(hours=1)
        await drain(pgq)

    Jobs become due, retries too; idempotency windows end, jobs expire, rates let the next ones through, waits
    of durable functions are over, and schedules tick.

    All stored times move into the past. So a job that was enqueued with `delay=3600` shows a `run_at` of now
    after `advance(hours=1)`, and `pgq.now()` is what it was. What was missed is made up for as after an
    outage: a schedule ticks as its `misfire` policy says, and a tick after that is computed from the real
    time. Time limits of handlers that run are not moved, nor are the leases of workers.

    Use it on a database of a test's own: it writes every row that has a time, and waits for locks on them.
    """

    def __init__(self, pgq: PgQueue) -> None:
        self._pgq = pgq

    async def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Let so much time pass, and at most 0.14 seconds more. Raises InvalidOptionError unless it is > 0.

        A worker that is running notices within a second.
        """
        given = {"days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        moved = sum(
            _IN[unit] * finite_seconds(f"clock.advance: {unit}", each) for unit, each in given.items()
        )
        await self._move(positive_seconds("clock.advance: the time", moved))

    async def advance_to_tick(self, schedule: str) -> None:
        """Let time pass until the next tick of *schedule*.

        Raises ScheduleNotFoundError, and ConfigurationError if it will not tick again.
        """
        async with opened(self._pgq):
            await self._pgq.write_schedules()
            found = await self._pgq.schedules.get(schedule)
            next_at = found.next_at
            if next_at is None or found.paused_at is not None:
                raise ConfigurationError(f"schedule {shown(schedule)} is paused, or has no tick to come")
            seconds = (next_at - await self._pgq.now()).total_seconds()
            if seconds > 0:
                await self._move(seconds)

    async def _move(self, seconds: float) -> None:
        async with opened(self._pgq):
            # They exist from their declaration on, and not from when a worker sees it.
            await self._pgq.write_schedules()
            database, store = self._pgq.beneath()
            async with database.acquire() as connection, connection.transaction():
                await store.move_times(connection, seconds)
