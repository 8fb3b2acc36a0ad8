"""Statements on leases, the rights of worker processes to the jobs that they claimed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.model.jobs import JobStatus
from pgqueue.store.base import Statements
from pgqueue.store.values import Rescued

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class LeaseStatements(Statements):
    """Statements on leases."""

    async def register_lease(
        self,
        connection: Connection,
        lease_id: UUID,
        worker: str,
        queues: Sequence[str],
        ttl: float,
        *,
        prefetch: int,
        lock_key: int | None,
        max_losses: Mapping[str, int],
        version: str | None = None,
        tasks: Iterable[str] | None = None,
    ) -> None:
        """Register a lease. *tasks*: those that the worker declares, or None if it may declare any."""
        await connection.execute(
            self._sql["register_lease"],
            lease_id,
            worker,
            queues,
            timedelta(seconds=ttl),
            prefetch,
            lock_key,
            json.dumps(dict(max_losses)),
            version,
            None if tasks is None else list(tasks),
        )

    async def renew_lease(
        self, connection: Connection, lease_id: UUID, ttl: float, *, loop_lag: float | None = None
    ) -> bool:
        """Renew a lease, and store its event-loop lag; return whether the lease is still valid."""
        renewed = await connection.fetchval(
            self._sql["renew_lease"], lease_id, timedelta(seconds=ttl), loop_lag
        )
        return renewed is not None

    async def hold_lock(self, connection: Connection, key: int) -> bool:
        """Take an advisory lock for the life of *connection*; return False if another session holds it."""
        return bool(await connection.fetchval(self._sql["hold_lock"], key))

    async def lock_lease(self, connection: Connection, lease_id: UUID) -> None:
        """Lock a lease for the transaction, after waiting for claims under it."""
        await connection.execute(self._sql["lock_lease"], lease_id)

    async def delete_lease(self, connection: Connection, lease_id: UUID) -> bool:
        """Remove a lease that holds no jobs; return False if it holds some, or is gone."""
        return await connection.fetchval(self._sql["delete_lease"], lease_id) is not None

    async def lock_expired_leases(self, connection: Connection) -> list[tuple[UUID, str]]:
        """Lock expired leases for the transaction; return (lease id, worker) for each."""
        return [
            (row["id"], row["worker"]) for row in await connection.fetch(self._sql["lock_expired_leases"])
        ]

    async def find_silent_leases(self, connection: Connection, own: UUID) -> dict[UUID, datetime]:
        """Return the leases whose process no longer holds its lock, with the times of their last renewals."""
        rows = await connection.fetch(self._sql["find_silent_leases"], own)
        return {row["id"]: row["renewed_at"] for row in rows}

    async def expire_lease(self, connection: Connection, lease_id: UUID, renewed_at: datetime) -> bool:
        """Expire a lease now, unless it was renewed after *renewed_at*."""
        return await connection.fetchval(self._sql["expire_lease"], lease_id, renewed_at) is not None

    async def rescue(
        self, connection: Connection, lease_id: UUID, limit: int, max_losses: int
    ) -> list[Rescued]:
        """Rescue jobs of an expired, locked lease."""
        rows = await connection.fetch(self._sql["rescue"], lease_id, limit, max_losses)
        return [
            Rescued(
                id=row["id"],
                task=row["task"],
                lane=row["lane"],
                status=JobStatus(row["status"]),
                queue=row["queue"],
                attempt=row["attempt"],
                was_running=row["was_running"],
            )
            for row in rows
        ]
