"""Claims jobs one by one, where they cannot be claimed together: the one that fails is set aside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from uuid import UUID

import asyncpg

from pgqueue.database.link import Link
from pgqueue.database.outages import is_away
from pgqueue.store import Claimed, Store
from pgqueue.upkeep.broken_rows import DOUBTFUL, BrokenRows
from pgqueue.worker.claim.returning import Returns


class SingleClaims:
    """Claims job by job for one worker. It uses the connection of the claimer.

    Each job is yielded as soon as it is claimed, and the caller starts it before the next is tried. So none
    waits for another, and where the database goes away, which raises, those before have started. *look* has
    the claimer sweep again.
    """

    def __init__(
        self, store: Store, link: Link, broken: BrokenRows, returns: Returns, look: Callable[[], object]
    ) -> None:
        self._store = store
        self._link = link
        self._broken = broken
        self._returns = returns
        self._look = look

    @property
    def are_needed(self) -> bool:
        """Whether a row is known at which a claim of many would fail."""
        return self._broken.is_suspicious

    async def claim(
        self, lease_id: UUID, limit: int, walk: Sequence[tuple[int, int]]
    ) -> AsyncIterator[Claimed]:
        """Claim up to *limit* ready jobs. Raises an error that seems to be about all of them."""
        async with self._link.use() as connection:
            found = await self._store.find_claimable(connection, limit, walk, self._broken.skipped)
        failures, has_claimed = 0, False
        for job_id in found:
            try:
                async with self._link.use() as connection:
                    job = await self._store.claim_one(connection, lease_id, job_id)
            except Exception as error:
                if is_away(error):
                    raise
                if not isinstance(error, asyncpg.PostgresError):
                    # It could not be read back. The claim itself is committed.
                    await self._returns.return_unknown(lease_id)
                self._look()
                failures += 1
                is_set_aside = await self._broken.blame(self._link, job_id, error, lease_id)
                if not (is_set_aside or has_claimed) and failures >= DOUBTFUL:
                    # It is about all of them: the others would fail as well, one after the other.
                    raise
                continue
            if job is not None:
                has_claimed = True
                self._broken.went_through([job_id])
                yield job

    async def start(self, lease_id: UUID, ids: Sequence[UUID]) -> AsyncIterator[Claimed]:
        """Start prefetched jobs. Those that another worker has taken over meanwhile are not yielded."""
        for job_id in ids:
            try:
                async with self._link.use() as connection:
                    jobs = await self._store.start(connection, lease_id, [job_id])
            except Exception as error:
                if is_away(error):
                    raise
                await self._broken.blame(self._link, job_id, error, lease_id)
                continue
            self._broken.went_through()
            for job in jobs:
                yield job
