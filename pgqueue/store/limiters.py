"""Statements on limiters: what running jobs hold, or wait for, in the middle of their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from pgqueue.model.limiters import LimiterUse
from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


MOST_SEEN: Final = 10_000
"""Holds and turns that a list of limiters looks at."""


class Taken(NamedTuple):
    """What came of asking a limiter: 'held', 'waits', 'full', or 'lost', if the attempt is over."""

    verdict: str
    retry_after: float | None
    """In how many seconds there may be room; None: nobody knows."""


class LimiterStatements(Statements):
    """Statements on limiters."""

    async def take_limiter(
        self,
        connection: Connection,
        hold: UUID,
        limiter: tuple[str, str, int, float | None],
        job_id: UUID,
        lease_id: UUID,
        *,
        waits: bool,
    ) -> Taken:
        """Ask a *limiter* (kind, name, most, period) for *hold*. Asking twice is asking once."""
        row = await connection.fetchrow(self._sql["take_limiter"], hold, *limiter, job_id, lease_id, waits)
        assert row is not None
        return Taken(row["verdict"], row["retry_after"])

    async def leave_limiter(self, connection: Connection, hold: UUID) -> UUID | None:
        """Give back what is held, or a turn; return the limiter if others wait for it."""
        limiter: UUID | None = await connection.fetchval(self._sql["leave_limiter"], hold)
        return limiter

    async def list_limiters(self, connection: Connection, limit: int) -> list[LimiterUse]:
        """Return up to *limit* limiters that attempts hold or wait for."""
        rows = await connection.fetch(self._sql["list_limiters"], limit, MOST_SEEN)
        return [LimiterUse(**dict(row.items())) for row in rows]

    async def sweep_limiters(self, connection: Connection, after: UUID, limit: int) -> UUID | None:
        """Look at the next limiters behind *after* for what is over; return the last, None: no more."""
        reached: UUID | None = await connection.fetchval(self._sql["sweep_limiters"], after, limit)
        return reached
