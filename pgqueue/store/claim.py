"""Claiming: from lanes to jobs under lease."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.store.base import Statements
from pgqueue.store.values import Claimed, Lane

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class ClaimStatements(Statements):
    """From lanes to jobs under lease."""

    async def find_lanes(
        self, connection: Connection, queues: Iterable[str], tasks: Iterable[str]
    ) -> list[Lane]:
        """Return the lanes that a worker walks."""
        rows = await connection.fetch(self._sql["find_lanes"], list(queues), list(tasks))
        return [Lane(*row) for row in rows]

    async def claim(
        self, connection: Connection, lease_id: UUID, limit: int, walk: Sequence[tuple[int, int]]
    ) -> list[Claimed]:
        """Lease up to *limit* jobs, walking lanes from positions in the given order."""
        lanes, positions = zip(*walk, strict=True)
        rows = await connection.fetch(self._sql["claim"], lease_id, limit, lanes, positions)
        return [Claimed._make(row) for row in rows]

    async def prefetch(
        self, connection: Connection, lease_id: UUID, limit: int, walk: Sequence[tuple[int, int]]
    ) -> list[tuple[UUID, int, int]]:
        """Lease up to *limit* jobs without starting them; return (job id, lane, position) of each."""
        lanes, positions = zip(*walk, strict=True)
        rows = await connection.fetch(self._sql["prefetch"], lease_id, limit, lanes, positions)
        return [tuple(row) for row in rows]

    async def start(self, connection: Connection, lease_id: UUID, ids: Sequence[UUID]) -> list[Claimed]:
        """Start prefetched jobs; return those that nobody has stolen."""
        return [Claimed._make(row) for row in await connection.fetch(self._sql["start"], lease_id, ids)]

    async def take_over_prefetched(
        self, connection: Connection, lease_id: UUID, limit: int, lanes: Sequence[int]
    ) -> list[tuple[UUID, int, int]]:
        """Take over what others have prefetched; return (job id, lane, position) of each."""
        rows = await connection.fetch(self._sql["take_over_prefetched"], lease_id, limit, lanes)
        return [tuple(row) for row in rows]

    async def secure_claim(self, connection: Connection, job_id: UUID, lease_id: UUID) -> bool:
        """Have a claim outlive a crash; False: it is gone."""
        return await connection.fetchval(self._sql["secure_claim"], job_id, lease_id) is not None

    async def sweep(self, connection: Connection, lanes: Iterable[int]) -> dict[int, int]:
        """Return the first position of each of *lanes* that has ready jobs."""
        rows = await connection.fetch(self._sql["sweep"], list(lanes))
        return {row["lane"]: row["position"] for row in rows}
