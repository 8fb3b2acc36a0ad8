"""Statements that claim jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from pgqueue.model.checks import MAX_INTEGER
from pgqueue.store.base import Statements
from pgqueue.store.values import Claimed, Lane, Underway

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class Refilled(NamedTuple):
    """What windows have let through."""

    found: int
    """How many windows had room."""
    lanes: Sequence[int]
    notes: Sequence[int]
    """What follows: further limits."""
    cancelled: Sequence[UUID]


class ClaimStatements(Statements):
    """Statements that claim jobs."""

    async def find_lanes(
        self,
        connection: Connection,
        queues: Iterable[str],
        tasks: Iterable[str],
        after: int = 0,
        limit: int = MAX_INTEGER,
    ) -> list[Lane]:
        """Return the first *limit* lanes that a worker walks with ids above *after*, by id."""
        rows = await connection.fetch(self._sql["find_lanes"], list(queues), list(tasks), after, limit)
        return [Lane(*row) for row in rows]

    async def claim(
        self, connection: Connection, lease_id: UUID, limit: int, walk: Sequence[tuple[int, int]]
    ) -> list[Claimed]:
        """Claim and start up to *limit* jobs, from the lanes and positions of *walk* in that order."""
        lanes, positions = zip(*walk, strict=True)
        rows = await connection.fetch(self._sql["claim"], lease_id, limit, lanes, positions)
        return [Claimed._make(row) for row in rows]

    async def refill(
        self, connection: Connection, lanes: Sequence[int], after: UUID, most: int, free: int
    ) -> Refilled:
        """Let jobs of *lanes* through up to *most* windows, from *after* on, for *free* slots."""
        row = await connection.fetchrow(self._sql["refill"], lanes, after, most, free)
        assert row is not None
        return Refilled(row["windows"], row["ready"], row["more"] or (), row["cancelled"])

    async def find_claimable(
        self, connection: Connection, limit: int, walk: Sequence[tuple[int, int]], without: Iterable[UUID]
    ) -> list[UUID]:
        """Return up to *limit* jobs that a claim would take, except those in *without*."""
        lanes, positions = zip(*walk, strict=True)
        rows = await connection.fetch(self._sql["find_claimable"], limit, lanes, positions, list(without))
        return [row["job_id"] for row in rows]

    async def claim_one(self, connection: Connection, lease_id: UUID, job_id: UUID) -> Claimed | None:
        """Claim and start one pending job; None: it is taken, or its lane is paused."""
        row = await connection.fetchrow(self._sql["claim_one"], lease_id, job_id)
        return None if row is None else Claimed._make(row)

    async def prefetch(
        self, connection: Connection, lease_id: UUID, limit: int, walk: Sequence[tuple[int, int]]
    ) -> list[tuple[UUID, int, int, int]]:
        """Claim up to *limit* jobs without starting them; return (job id, lane, position, losses)."""
        lanes, positions = zip(*walk, strict=True)
        rows = await connection.fetch(self._sql["prefetch"], lease_id, limit, lanes, positions)
        return [tuple(row) for row in rows]

    async def start(self, connection: Connection, lease_id: UUID, ids: Sequence[UUID]) -> list[Claimed]:
        """Start prefetched jobs; return those that no other worker has taken over."""
        return [Claimed._make(row) for row in await connection.fetch(self._sql["start"], lease_id, ids)]

    async def hold_suspects(self, connection: Connection, lease_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
        """Hold claimed jobs as prefetched ones; return those that the lease still held."""
        rows = await connection.fetch(self._sql["hold_suspects"], lease_id, ids)
        return {row["job_id"] for row in rows}

    async def take_over_prefetched(
        self, connection: Connection, lease_id: UUID, limit: int, lanes: Sequence[int]
    ) -> list[tuple[UUID, int, int, int]]:
        """Take over jobs that other workers prefetched; return (job id, lane, position, losses) for each."""
        rows = await connection.fetch(self._sql["take_over_prefetched"], lease_id, limit, lanes)
        return [tuple(row) for row in rows]

    async def secure_claim(self, connection: Connection, job_id: UUID, lease_id: UUID) -> bool:
        """Make a claim survive a crash of the server; return whether it is still valid."""
        return await connection.fetchval(self._sql["secure_claim"], job_id, lease_id) is not None

    async def take_again(
        self, connection: Connection, lease_id: UUID, running: Sequence[Underway]
    ) -> dict[UUID, str]:
        """Take *running* jobs again whose claims a crashed server forgot.

        Returns by job id: "taken" just now, "held" as it was, or "elsewhere", under another lease.
        """
        rows = await connection.fetch(self._sql["take_again"], lease_id, *zip(*running, strict=True))
        return {row["job_id"]: row["how"] for row in rows}

    async def sweep(self, connection: Connection, lanes: Iterable[int]) -> dict[int, int]:
        """Return the first position of each of *lanes* that has pending jobs."""
        rows = await connection.fetch(self._sql["sweep"], list(lanes))
        return {row["lane"]: row["position"] for row in rows}
